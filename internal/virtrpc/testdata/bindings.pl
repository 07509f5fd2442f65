# Does with libvirt's binding for Perl what its test suite does: $ARGV[0] is the URI, $ARGV[1] a
# directory for a pool.
use strict;
use warnings;
use Sys::Virt;
use Sys::Virt::StoragePool;
use Sys::Virt::StorageVol;

sub must { my ($ok, $what) = @_; die "$what\n" unless $ok }

my $conn = Sys::Virt->new(uri => $ARGV[0]);
my $pool = $conn->define_storage_pool("<pool type='dir'><name>pl</name><target><path>$ARGV[1]</path></target></pool>");
must($conn->num_of_defined_storage_pools() == 1 && $conn->num_of_storage_pools() == 0, "one is defined");
must(($conn->list_defined_storage_pool_names(10))[0] eq "pl", "it has its name");
$pool->build(Sys::Virt::StoragePool::BUILD_NEW);
$pool->create;
must($pool->is_active && $pool->is_persistent && !$pool->get_autostart, "it is active");
must($pool->get_info->{state} == Sys::Virt::StoragePool::STATE_RUNNING, "it runs");
my $vol = $pool->create_volume("<volume><name>v</name><capacity>1048576</capacity></volume>");
must($pool->num_of_storage_volumes() == 1 && ($pool->list_storage_vol_names(10))[0] eq "v", "it has a volume");
must($vol->get_info->{capacity} == 1048576 && $vol->get_path eq "$ARGV[1]/v", "it has its size and place");

my $content = "storaged" x 100000;
my $up = $conn->new_stream();
$vol->upload($up, 0, length $content);
my $sent = 0;
$up->send_all(sub {
    my ($stream, undef, $size) = @_;
    $_[1] = substr($content, $sent, $size);
    $sent += length $_[1];
    return length $_[1];
});
$up->finish;
my ($down, $got) = ($conn->new_stream(), "");
$vol->download($down, 0, length $content);
$down->recv_all(sub { my ($stream, $data, $size) = @_; $got .= substr($data, 0, $size); return $size });
$down->finish;
must($got eq $content, "the content comes back");

my $clone = $pool->clone_volume("<volume><name>w</name><capacity>1048576</capacity></volume>", $vol);
$clone->resize(2097152);
$clone->wipe;
$clone->delete;
eval { $pool->get_volume_by_name("w") };
must($@ && $@->code == Sys::Virt::Error::ERR_NO_STORAGE_VOL && $@->domain == Sys::Virt::Error::FROM_STORAGE, "it is gone: $@");
$vol->delete;
$pool->destroy;
$pool->delete(Sys::Virt::StoragePool::DELETE_NORMAL);
$pool->undefine;
print "all done\n";
