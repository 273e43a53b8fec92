# Reads a delivery status notification from standard input with Sisimai, a parser of bounces that knows nothing of Sundown, and
# prints what it makes of each recipient as JSON.

use strict;
use warnings;
use File::Temp;
use JSON::PP;
use Sisimai;

my $file = File::Temp->new;
binmode STDIN;
binmode $file;
print $file do { local $/; <STDIN> };
close $file;

my $found = Sisimai->make($file->filename) // [];
my @fields = qw(action deliverystatus diagnosticcode reason diagnostictype);
my @recipients = map {
    my $one = $_;
    my %shown = map { $_ => $one->$_ } @fields;
    +{ %shown, recipient => $one->recipient->address, sender => $one->addresser->address };
} @$found;
print JSON::PP->new->canonical->encode(\@recipients);
