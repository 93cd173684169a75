#!/usr/bin/perl
# registry.pl: a schema registry for tests, which also does what a real one does
# not on demand: hangs, fails, answers something else, or without end.
#
# Speaks as much HTTP as it takes: GET of /schemas/ids/ID and
# /subjects/NAME/versions/N. Prints its port, then reads commands and answers
# each with "ok":
#   put PATH JSON   the body that the path has from now on
#   mode good            answers; a path without a body is 404, in a registry's form
#   mode status N        answers every question with status N
#   mode page            answers every question with 200 and a page of HTML
#   mode page404         ... with 404 and a page of HTML
#   mode redirect URL    ... with a redirect
#   mode endless         ... with a body that does not end
#   mode long N          ... with a JSON string of N bytes
#   mode cut             closes the connection within the answer
#   mode silent          takes the question and does not answer
#   mode auth TEXT       answers who sends that as user:password, others get 401
#   down, up             stops and begins to listen
#   asked                "ok" with the paths that were asked for since the last time
# Ends with its standard input.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use MIME::Base64;

my $listener = listen_at(0);
my $port = $listener->sockport;
my $select = IO::Select->new($listener, \*STDIN);
my (%body, %in, %endless, @asked);
my ($mode, $argument) = ('good', '');

$| = 1;
$SIG{PIPE} = 'IGNORE';
print "$port\n";

sub listen_at
{
	my ($wanted) = @_;
	return IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $wanted, Listen => 64, ReuseAddr => 1)
	  || die "listen: $!";
}

sub drop
{
	my ($peer) = @_;
	delete $in{$peer};
	delete $endless{$peer};
	$select->remove($peer);
	close($peer);
	return;
}

sub answer
{
	my ($peer, $status, $type, $text, @headers) = @_;
	print {$peer} join("\r\n", "HTTP/1.1 $status X", "Content-Type: $type", 'Content-Length: ' . length($text), @headers, '', $text);
	return;
}

sub serve
{
	my ($peer, $request) = @_;
	my ($path) = $request =~ m{^GET (\S+) HTTP/};
	push @asked, $path;
	my ($credentials) = $request =~ /^Authorization: Basic (\S+)/mi;
	my $json = 'application/vnd.schemaregistry.v1+json';
	return if $mode eq 'silent';
	return answer($peer, $argument, $json, qq({"error_code":$argument,"message":"x"})) if $mode eq 'status';
	return answer($peer, $1 ? 404 : 200, 'text/html', '<html>hello</html>') if $mode =~ /^page(404)?$/;
	return answer($peer, 302, 'text/html', '', "Location: $argument") if $mode eq 'redirect';
	return answer($peer, 200, $json, '{"schema":"' . 'x' x $argument . '"}') if $mode eq 'long';
	return answer($peer, 401, $json, '{"error_code":401,"message":"x"}')
	  if $mode eq 'auth' && decode_base64($credentials // '') ne $argument;
	if ($mode eq 'endless')
	{
		print {$peer} "HTTP/1.1 200 OK\r\nContent-Type: $json\r\n\r\n{\"schema\": \"";
		$endless{$peer} = $peer;
		return;
	}
	if ($mode eq 'cut')
	{
		print {$peer} "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"schema\": ";
		return drop($peer);
	}
	return answer($peer, 200, $json, $body{$path}) if defined $body{$path};
	return answer($peer, 404, $json, '{"error_code":40403,"message":"Schema not found"}');
}

sub command
{
	my ($line) = @_;
	if ($line =~ /^put (\S+) (.*)$/)
	{
		$body{$1} = $2;
	}
	elsif ($line =~ /^mode (\S+) ?(.*)$/)
	{
		($mode, $argument) = ($1, $2);
	}
	elsif ($line eq 'down')
	{
		$select->remove($listener);
		close($listener);
		drop($_) for grep { $_ != \*STDIN } $select->handles;
	}
	elsif ($line eq 'up')
	{
		$listener = listen_at($port);
		$select->add($listener);
	}
	elsif ($line eq 'asked')
	{
		print 'ok ' . join(' ', splice @asked) . "\n";
		return;
	}
	else
	{
		print "error: unknown command\n";
		return;
	}
	print "ok\n";
	return;
}

my $commands = '';
while (1)
{
	for my $handle ($select->can_read(%endless ? 0 : undef))
	{
		my $bytes;
		if ($handle == $listener)
		{
			my $peer = $listener->accept or next;
			$peer->autoflush(1);
			$in{$peer} = '';
			$select->add($peer);
		}
		elsif ($handle == \*STDIN)
		{
			exit 0 unless sysread(STDIN, $commands, 65536, length $commands);
			command($1) while $commands =~ s/^(.*)\n//;
		}
		elsif (!sysread($handle, $bytes, 65536))
		{
			drop($handle);
		}
		else
		{
			$in{$handle} .= $bytes;
			serve($handle, $1) if $in{$handle} =~ s/^(.*?\r\n\r\n)//s;
		}
	}
	for my $peer (values %endless)
	{
		drop($peer) unless syswrite($peer, 'x' x 8192);
	}
}
