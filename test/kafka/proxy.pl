#!/usr/bin/perl
# proxy.pl: a bad network in one process, between a client and a broker that
# advertises this port.
#
#   proxy.pl PORT
#
# Prints "ready", then reads commands and answers each with "ok":
#   to PORT       where connections go, on loopback
#   good          all is passed on
#   cut MOST      each connection is closed after a random number of bytes of the
#                 broker, MOST at most
#   swallow       all is taken and nothing passed on; connections stay
#   delay MS      each piece is passed on so much later, either way
#   trickle       one byte a second of the broker is passed on
#   seed N        of the random numbers
# What a connection had not yet passed on when the mode changes is passed on in the
# new one; what was swallowed is lost, so those connections are closed.  Ends with
# its standard input.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);

$| = 1;
$SIG{PIPE} = 'IGNORE';    # who was cut off is found out by the write
my ($mode, $value, $to) = ('good', 0, 0);
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 20, ReuseAddr => 1)
  or die "port $ARGV[0]: $!";
my $select = IO::Select->new($listener, \*STDIN);
my %pair;    # file number => one direction: from, to, queue, left, next

sub direction
{
	my ($from, $target, $of_broker) = @_;
	$pair{ fileno $from } = { from => $from, to => $target, of_broker => $of_broker, queue => [], next => 0, left => budget() };
	$from->blocking(0);
	$select->add($from);
	return;
}

sub budget { return $mode eq 'cut' ? int(rand($value)) : -1 }

sub drop
{
	my ($direction) = @_;
	for my $handle ($direction->{from}, $direction->{to})
	{
		delete $pair{ fileno $handle };
		$select->remove($handle);
		close($handle);
	}
	return;
}

sub take
{
	my ($direction) = @_;
	my $got = sysread($direction->{from}, my $data, 65536);
	return drop($direction) if defined $got && $got == 0 || !defined $got && !$!{EAGAIN};
	return if !$got;
	if ($mode eq 'swallow') { $direction->{lost} = 1 }
	else { push @{ $direction->{queue} }, [ time() + ($mode eq 'delay' ? $value / 1000 : 0), $data ] }
	return;
}

# pass passes on what is due; false if the connection is gone.
sub pass
{
	my ($direction) = @_;
	my $now = time();
	while (my $piece = $direction->{queue}[0])
	{
		return 1 if $piece->[0] > $now || $mode eq 'swallow';
		my $size = length $piece->[1];
		if ($direction->{of_broker} && $mode eq 'trickle')
		{
			return 1 if $now < $direction->{next};
			($size, $direction->{next}) = (1, $now + 1);
		}
		if ($direction->{of_broker} && $direction->{left} >= 0)
		{
			$size = $direction->{left} if $direction->{left} < $size;
			$direction->{left} -= $size;
		}
		my $sent = $size ? syswrite($direction->{to}, $piece->[1], $size) : 0;
		return 1 if !defined $sent && $!{EAGAIN};
		if (!defined $sent || $direction->{of_broker} && $direction->{left} == 0)
		{
			drop($direction);
			return 0;
		}
		substr($piece->[1], 0, $sent) = '';
		shift @{ $direction->{queue} } if !length $piece->[1];
	}
	return 1;
}

sub command
{
	my ($line) = @_;
	my ($word, $number) = split(' ', $line);
	if ($word eq 'to') { $to = $number }
	elsif ($word eq 'seed') { srand($number) }
	else
	{
		($mode, $value) = ($word, $number // 0);
		for my $direction (my @all = values %pair)
		{
			next if !$pair{ fileno($direction->{from}) // -1 };
			if ($direction->{lost} && $mode ne 'swallow') { drop($direction) }
			else { $direction->{left} = budget() }
		}
	}
	print "ok\n";
	return;
}

print "ready\n";
my $commands = '';
while (1)
{
	my $waiting = grep { @{ $_->{queue} } } values %pair;
	for my $handle ($select->can_read($waiting ? 0.01 : 0.2))
	{
		if ($handle == $listener)
		{
			my $client = $listener->accept or next;
			my $broker = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to);
			if (!$broker) { close($client); next }
			direction($client, $broker, 0);
			direction($broker, $client, 1);
		}
		elsif ($handle == \*STDIN)
		{
			exit 0 if !sysread(STDIN, $commands, 65536, length $commands);
			command($1) while $commands =~ s/^(.*)\n//;
		}
		elsif (defined fileno($handle) && $pair{ fileno $handle }) { take($pair{ fileno $handle }) }
	}
	for my $direction (my @all = values %pair)
	{
		pass($direction) if defined fileno($direction->{from});
	}
}
