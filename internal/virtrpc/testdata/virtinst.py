"""Does with the code that virt-install, virt-clone and virt-manager share what they do with storage:
sys.argv[1] is the URI, sys.argv[2] a directory for a pool, where a copy of 4 MiB is to take some seconds."""
import os
import sys
import tempfile

sys.path.insert(0, "/usr/share/virt-manager")
import libvirt
import virtinst
from virtinst.install import volumeupload

libvirt.registerErrorHandler(lambda _, __: None, None)
MIB = 1 << 20


class Meter:
    """A progress bar that remembers what it was to draw."""

    def start(self, text, size):
        self.text, self.size, self.drawn, self.ended = text, size, [], False

    def update(self, done):
        self.drawn.append(done)

    def end(self):
        self.ended = True

    def is_true(self, at_least):
        between = [done for done in self.drawn if 0 < done < self.size]
        assert self.ended and self.drawn == sorted(self.drawn), self.drawn
        assert len(set(between)) >= at_least, self.drawn
        print("%s: of %d MiB were drawn %s" % (self.text, self.size // MIB, " ".join("%.1f" % (done / MIB) for done in self.drawn)))


conn = virtinst.VirtinstConnection(sys.argv[1])
conn.open(None, None)

# The dialog for a new pool.
new = virtinst.StoragePool(conn)
new.type, new.name, new.target_path = new.TYPE_DIR, virtinst.StoragePool.find_free_name(conn, "virtinst"), sys.argv[2]
pool = new.install(create=True, build=True, autostart=True)
assert pool.name() == "virtinst" and pool.isActive() and pool.autostart()
assert virtinst.StoragePool.find_free_name(conn, "virtinst") == "virtinst-1"
assert virtinst.StoragePool.lookup_pool_by_path(conn, sys.argv[2]).name() == "virtinst"


def install(name, size, sparse, fmt, meter, **more):
    """What --disk pool=...,size=... does."""
    planned = virtinst.DeviceDisk.build_vol_install(conn, name, pool, size / 1024**3, sparse, fmt=fmt, **more)
    planned.validate()
    disk = virtinst.DeviceDisk(conn)
    disk.set_vol_install(planned)
    disk.validate()
    disk.build_storage(meter)
    vol = disk.get_vol_object()
    assert vol.info()[:2] == [libvirt.VIR_STORAGE_VOL_FILE, size] and os.path.exists(vol.path())
    return vol


meter = Meter()
base = install("base", 4 * MIB, False, "raw", meter)
assert meter.ended and base.info()[2] >= 4 * MIB
assert install("sparse", 64 * MIB, True, "raw", Meter()).info()[2] < MIB
assert "<format type='qcow2'/>" in install("image.qcow2", 64 * MIB, True, "qcow2", Meter()).XMLDesc(0)
full = install("full.qcow2", 8 * MIB, False, "qcow2", Meter())
assert full.info()[2] >= 8 * MIB, full.info()
over = install("over.qcow2", 64 * MIB, True, "qcow2", Meter(), backing_store=os.path.join(sys.argv[2], "image.qcow2"))
assert virtinst.StorageVolume(conn, parsexml=over.XMLDesc(0)).backing_format == "qcow2"
try:
    install("base", MIB, True, "raw", Meter())
    sys.exit("a volume is made twice")
except ValueError as error:
    assert "already in use" in str(error), error

# A kernel is uploaded before an installation.
with tempfile.NamedTemporaryFile(dir=os.path.dirname(sys.argv[2])) as kernel:
    kernel.write(os.urandom(MIB + 77))
    kernel.flush()
    meter = Meter()
    (path,), _ = volumeupload.upload_paths(conn, sys.argv[2], meter, [kernel.name])
    with open(kernel.name, "rb") as theirs, open(path, "rb") as ours:
        assert ours.read() == theirs.read()
    assert meter.ended and meter.drawn[-1] == MIB + 77

# A copy, watched. What is drawn is what the job has on disk.
with open(base.path(), "r+b") as guest:
    guest.write(os.urandom(4 * MIB))
copy = virtinst.StorageVolume(conn)
copy.pool, copy.name = pool, "copy"
copy.set_input_vol(base)
copy.validate()
meter = Meter()
copied = copy.install(meter)
meter.is_true(at_least=2)
with open(base.path(), "rb") as theirs, open(copied.path(), "rb") as ours:
    assert ours.read() == theirs.read()

for vol in pool.listAllVolumes():
    if vol.name() == "over.qcow2":
        vol.delete(0)
for vol in pool.listAllVolumes():
    vol.delete(0)
pool.destroy()
pool.delete(0)
pool.undefine()
conn.close()
print("all done")
