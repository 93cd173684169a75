#!/usr/bin/perl
# scripted_broker.pl: a Kafka broker that does on demand what a real one does
# not: records with a wrong checksum, logs that are cut, lengths and counts that
# are no such, answers without end, connections on which nobody answers.
#
# Speaks as much as a consumer without a group needs: ApiVersions, Metadata,
# ListOffsets and Fetch, for one topic "t". Prints its address, then reads
# commands and answers each with "ok":
#   log P LOW END [WORD]   partition P holds the offsets from LOW to before END;
#                   each record has the key "k" and the value "P/offset", with the
#                   WORD of another topic of the same name behind it
#   mode NAME [N]   what goes wrong from now on, "good" for nothing; most of it
#                   concerns partition 0 only, from offset N on
#   mode fuzz N     damages the answers to the requests with the key N at random
#   seed N          of that
#   mode patient    nothing is wrong, but a fetch of nothing new waits half a second
#   connections     answers "ok N": how many were made so far
# Ends with its standard input.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;

my $TOPIC = 't';
my %log = (0 => [ 0, 0 ], 1 => [ 0, 0 ]);
my ($mode, $from) = ('good', 0);

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, ReuseAddr => 1) or die "listen: $!";
my $port = $listener->sockport;
my $select = IO::Select->new($listener, \*STDIN);
my $connections = 0;
my %peer;    # fileno => { in, out, handle }
my @crc_table;

$| = 1;
$SIG{PIPE} = 'IGNORE';
print "127.0.0.1:$port\n";

# ------------------------------------------------------------------ encoding
sub i8 { return pack('c', $_[0]) }
sub i16 { return pack('s>', $_[0]) }
sub i32 { return pack('l>', $_[0]) }
sub i64 { return pack('q>', $_[0]) }
sub text { return i16(length $_[0]) . $_[0] }

sub varint
{
	my ($n) = @_;
	my $z = $n >= 0 ? $n * 2 : -$n * 2 - 1;
	my $out = '';
	while ($z > 127)
	{
		$out .= chr(($z & 127) | 128);
		$z >>= 7;
	}
	return $out . chr($z);
}

# crc32c is the checksum of a batch (polynomial of Castagnoli).
sub crc32c
{
	my ($data) = @_;
	if (!@crc_table)
	{
		for my $n (0 .. 255)
		{
			my $c = $n;
			$c = $c & 1 ? ($c >> 1) ^ 0x82F63B78 : $c >> 1 for 1 .. 8;
			push @crc_table, $c;
		}
	}
	my $crc = 0xFFFFFFFF;
	$crc = ($crc >> 8) ^ $crc_table[ ($crc ^ $_) & 255 ] for unpack('C*', $data);
	return $crc ^ 0xFFFFFFFF;
}

# batch makes a record batch of the offsets from first to before end; what the
# mode breaks in it is broken here.
sub batch
{
	my ($partition, $first, $end, $broken) = @_;
	my $records = '';
	for my $offset ($first .. $end - 1)
	{
		my $value = "$partition/$offset" . ($log{$partition}[2] // '');
		my $length = $broken eq 'record_length' ? 2_000_000_000 : length $value;
		my $body = i8(0) . varint(0) . varint($offset - $first) . varint(1) . 'k' . varint($length) . $value . varint(0);
		$body = i8(0) . varint(0) . varint($offset - $first) . varint(-7) . 'k' . varint(-9) . $value . varint(0)
		  if $broken eq 'negative_length';
		$body = i8(0) . varint(0) . varint($offset - $first) . varint(1) . 'k' . varint(length $value) . $value . varint(1_000_000_000)
		  if $broken eq 'header_count';
		$records .= varint(length $body) . $body;
	}
	my $count = $broken eq 'record_count' ? 2_000_000_000 : $broken eq 'negative_count' ? -5 : $end - $first;
	my $attributes = $broken eq 'codec' ? 7 : $broken eq 'compressed' ? 4 : 0;
	my $covered = i16($attributes) . i32($end - $first - 1) . i64(1400000000000) . i64(1400000000000) . i64(-1) . i16(-1) . i32(-1) . i32($count) . $records;
	my $crc = crc32c($covered) ^ ($broken eq 'crc' ? 1 : 0);
	my $rest = i32(0) . i8($broken eq 'magic' ? 9 : 2) . pack('N', $crc) . $covered;
	my $batch_length = $broken eq 'batch_length' ? 2_000_000_000 : $broken eq 'negative_batch' ? -3 : length $rest;
	my $whole = i64($first) . i32($batch_length) . $rest;
	$whole = substr($whole, 0, length($whole) / 2) if $broken eq 'cut';
	return $whole;
}

# ----------------------------------------------------------------- the answers
sub api_versions
{
	my ($version) = @_;
	my %range = (0 => [ 0, 3 ], 1 => [ 4, 4 ], 2 => [ 1, 2 ], 3 => [ 0, 1 ], 18 => [ 0, 0 ]);
	return i16($version > 0 ? 35 : 0) . i32(scalar keys %range)
	  . join('', map { i16($_) . i16($range{$_}[0]) . i16($range{$_}[1]) } sort { $a <=> $b } keys %range);
}

sub metadata
{
	my ($version) = @_;
	my $rack = $version >= 1 ? i16(-1) : '';
	my @partitions = sort { $a <=> $b } keys %log;
	my $brokers = i32(1) . i32(1) . text('127.0.0.1') . i32($port) . $rack;
	my $controller = $version >= 1 ? i32(1) : '';
	my $internal = $version >= 1 ? i8(0) : '';
	my $count = $mode eq 'partition_count' ? 2_000_000_000 : $mode eq 'negative_partitions' ? -4 : scalar @partitions;
	my $topics = $mode eq 'topic_count' ? 1_500_000_000 : 1;
	return $brokers . $controller . i32($topics) . i16(0) . text($TOPIC) . $internal . i32($count)
	  . join('', map { i16(0) . i32($_) . i32(1) . i32(1) . i32(1) . i32(1) . i32(1) } @partitions);
}

sub list_offsets
{
	my ($version, $body) = @_;
	my $at = $version >= 2 ? 5 : 4;
	my $answer = $version >= 2 ? i32(0) : '';
	my $topics = unpack("\@$at l>", $body);
	$at += 4;
	$answer .= i32($topics);
	for (1 .. $topics)
	{
		my $length = unpack("\@$at s>", $body);
		my $name = substr($body, $at + 2, $length);
		$at += 2 + $length;
		my $count = unpack("\@$at l>", $body);
		$at += 4;
		$answer .= text($name) . i32($count);
		for (1 .. $count)
		{
			my ($partition, $time) = unpack("\@$at l> q>", $body);
			$at += 12;
			my $log = $log{$partition} // [ 0, 0 ];
			my $offset = $time == -2 ? $log->[0] : $log->[1];
			$offset = -77 if $mode eq 'negative_offset' && $partition == 0;
			$answer .= i32($partition) . i16(0) . i64(-1) . i64($offset);
		}
	}
	return $answer;
}

# fetch answers for one partition: error, records.
sub fetch_partition
{
	my ($partition, $offset) = @_;
	my ($low, $end) = @{ $log{$partition} // [ 0, 0 ] };
	return (1, '') if $offset < $low || $offset > $end;
	my $until = $offset + 100 < $end ? $offset + 100 : $end;
	my $broken = $partition == 0 && $until > $from ? $mode : 'good';
	# what is before that is served as it is
	($until, $broken) = ($from, 'good') if $broken ne 'good' && $offset < $from;
	return (0, '') if $offset >= $until;
	return (87, '') if $broken eq 'corrupt_error';
	return (0, batch($partition, $offset > 5 ? $offset - 5 : 0, $until, 'good')) if $broken eq 'again';
	return (0, "\xde\xad\xbe\xef" x 50) if $broken eq 'garbage';
	return (0, batch($partition, $offset, $until, $broken));
}

sub fetch
{
	my ($body, $empty) = @_;
	my $at = 17;
	my $topics = unpack("\@$at l>", $body);
	my $answer = i32(0) . i32($topics);
	$at += 4;
	$$empty = 1;
	for (1 .. $topics)
	{
		my $length = unpack("\@$at s>", $body);
		my $name = substr($body, $at + 2, $length);
		$at += 2 + $length;
		my $count = unpack("\@$at l>", $body);
		$at += 4;
		$answer .= text($name) . i32($count);
		for (1 .. $count)
		{
			my ($partition, $offset) = unpack("\@$at l> q>", $body);
			$at += 16;
			my ($error, $records) = fetch_partition($partition, $offset);
			my $end = $log{$partition} ? $log{$partition}[1] : 0;
			my $size = $mode eq 'records_size' && $partition == 0 ? 1_900_000_000 : $mode eq 'negative_size' && $partition == 0 ? -2 : length $records;
			my $aborted = $mode eq 'aborted_count' && $partition == 0 ? 1_000_000_000 : $mode eq 'negative_aborted' && $partition == 0 ? -6 : -1;
			$$empty = 0 if length $records || $error;
			$answer .= i32($partition) . i16($error) . i64($end) . i64($end) . i32($aborted) . i32($size) . $records;
		}
	}
	return $answer;
}

# answer is the whole answer to one request, with its length; undef for none.
sub answer
{
	my ($peer, $request) = @_;
	my ($key, $version, $id, $client) = unpack('s> s> l> s>', $request);
	my $body = substr($request, 10 + ($client > 0 ? $client : 0));
	my ($result, $empty) = ('', 0);

	return undef if $mode eq 'silent';
	$result = $key == 18 ? api_versions($version) : $key == 3 ? metadata($version)
	  : $key == 2 ? list_offsets($version, $body) : $key == 1 ? fetch($body, \$empty) : '';
	# nothing new: a real broker waits for it
	select(undef, undef, undef, $mode eq 'patient' ? 0.5 : 0.02) if $empty;
	$id ^= 0x55 if $mode eq 'correlation' && $key == 1;
	$result = mutate($result) if $mode eq 'fuzz' && $key == $from;
	my $size = 4 + length $result;
	$size = 2_000_000_000 if $mode eq 'endless' && $key != 18;
	$size = -8 if $mode eq 'negative_answer' && $key != 18;
	$size -= 6 if $mode eq 'short_answer' && $key == 1;
	$peer->{endless} = 1 if $mode eq 'endless' && $key != 18;
	return i32($size) . i32($id) . $result;
}

sub mutate
{
	my ($data) = @_;
	return $data if rand() < 0.3 || !length $data;
	for (1 .. 1 + int(rand(4)))
	{
		my $at = int(rand(length $data));
		my $how = int(rand(4));
		if ($how == 0) { substr($data, $at, 1) = chr(int(rand(256))) }
		elsif ($how == 1) { substr($data, $at, 4) = i32((0x7fffffff, -1, -2, 0, 0x10000000, -2**31)[ int(rand(6)) ]) }
		elsif ($how == 2) { $data = substr($data, 0, $at) }
		else { substr($data, $at, 0) = "\xff" x int(rand(30)) }
		last if !length $data;
	}
	return $data;
}

# ------------------------------------------------------------------ connections
sub serve
{
	my ($peer) = @_;
	while (length($peer->{in}) >= 4)
	{
		my $size = unpack('l>', $peer->{in});
		last if length($peer->{in}) < 4 + $size;
		my $request = substr($peer->{in}, 4, $size);
		substr($peer->{in}, 0, 4 + $size) = '';
		my $answer = answer($peer, $request);
		$peer->{out} .= $answer if defined $answer;
	}
	return;
}

sub drop
{
	my ($peer) = @_;
	$select->remove($peer->{handle});
	delete $peer{ fileno($peer->{handle}) };
	close($peer->{handle});
	return;
}

sub send_some
{
	my ($peer) = @_;
	$peer->{out} .= "\0" x 65536 if $peer->{endless} && length($peer->{out}) < 65536;
	return if !length $peer->{out};
	my $part = $mode eq 'slow' ? 1 : length $peer->{out};
	my $sent = syswrite($peer->{handle}, $peer->{out}, $part);
	return drop($peer) if !defined $sent && !$!{EAGAIN};
	substr($peer->{out}, 0, $sent) = '' if $sent;
	return;
}

sub command
{
	my ($line) = @_;
	my ($word, @rest) = split(' ', $line);
	if ($word eq 'log') { $log{ $rest[0] } = [ @rest[1 .. 3] ] }
	elsif ($word eq 'seed') { srand($rest[0]) }
	elsif ($word eq 'mode')
	{
		($mode, $from) = ($rest[0], $rest[1] // 0);
		# who was kept waiting or is in the middle of something begins again
		drop($_) for grep { $_->{endless} || length $_->{out} } values %peer;
	}
	print $word eq 'connections' ? "ok $connections\n" : "ok\n";
	return;
}

my $commands = '';
while (1)
{
	for my $handle ($select->can_read((grep { length $_->{out} || $_->{endless} } values %peer) ? 0.01 : 0.5))
	{
		if ($handle == $listener)
		{
			my $new = $listener->accept or next;
			$new->blocking(0);
			$select->add($new);
			$connections++;
			$peer{ fileno($new) } = { handle => $new, in => '', out => '' };
		}
		elsif ($handle == \*STDIN)
		{
			exit 0 if !sysread(STDIN, $commands, 65536, length $commands);
			command($1) while $commands =~ s/^(.*)\n//;
		}
		elsif (my $peer = $peer{ fileno($handle) })
		{
			my $got = sysread($handle, $peer->{in}, 65536, length $peer->{in});
			if ($got) { serve($peer) }
			elsif (defined $got || !$!{EAGAIN}) { drop($peer) }
		}
	}
	send_some($_) for values %peer;
	select(undef, undef, undef, 1) if $mode eq 'slow';
}
