#!/usr/bin/perl
# A provider in 30 lines, for `virtual-kubelet --provider web`: it keeps its pods in memory and calls them Running.
# Usage: perl web-provider.pl [ADDRESS:PORT]; needs nothing but Perl.
use strict; use warnings; use IO::Socket::INET; use JSON::PP;

my $json = JSON::PP->new->canonical->utf8;
my %pods;
my $server = IO::Socket::INET->new(LocalAddr => $ARGV[0] // '127.0.0.1:3000', Listen => 16, ReuseAddr => 1) or die "$@\n";
$| = 1; print 'listening on ', $server->sockport, "\n";

while (my $client = $server->accept) {
    my ($verb, $path, $query) = (<$client> // '') =~ m{^(\w+) ([^? ]+)\??(\S*)} or next;
    my ($length, $body) = (0, '');
    while (defined(my $line = <$client>) ) { last if $line =~ /^\r?$/; $length = $1 if $line =~ /^content-length: *(\d+)/i }
    read $client, $body, $length;
    my %asked = map { my ($key, $value) = split /=/; $value =~ tr/+/ /; $value =~ s/%(..)/chr hex $1/ge; ($key, $value) } split /&/, $query;
    my $pod = $length ? $json->decode($body) : undef;
    my $name = $pod ? "$pod->{metadata}{namespace}/$pod->{metadata}{name}" : join '/', map { $_ // '' } @asked{qw(namespace name)};
    my ($status, $answer) = ('200 OK', '');
    if    ($path eq '/createPod' or $path eq '/updatePod') { $pod->{status} = {phase => 'Running'}; $pods{$name} = $pod }
    elsif ($path eq '/deletePod')         { delete $pods{$name} or $status = '404 Not Found' }
    elsif ($path eq '/getPods')           { $answer = $json->encode([map { $pods{$_} } sort keys %pods]) }
    elsif ($path eq '/capacity')          { $answer = '{"cpu":"4","memory":"4Gi","pods":"20"}' }
    elsif ($path eq '/nodeConditions')    { $answer = '[{"type":"Ready","status":"True"}]' }
    elsif ($path eq '/nodeAddresses')     { $answer = '[]' }
    elsif ($path eq '/getContainerLogs')  { $answer = "hello from Perl\n" }
    elsif (not $pods{$name})              { $status = '404 Not Found' }
    elsif ($path eq '/getPod')            { $answer = $json->encode($pods{$name}) }
    elsif ($path eq '/getPodStatus')      { $answer = $json->encode($pods{$name}{status}) }
    printf $client "HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", $status, length $answer, $answer;
    close $client;
}
