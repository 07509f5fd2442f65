"""Does with libvirt's binding for Python what installers and managers do: sys.argv[1] is the URI,
sys.argv[2] a directory for a pool."""
import os
import sys
import threading

import libvirt

libvirt.virEventRegisterDefaultImpl()
threading.Thread(target=lambda: [libvirt.virEventRunDefaultImpl() for _ in iter(int, 1)], daemon=True).start()
libvirt.registerErrorHandler(lambda _, __: None, None)
conn = libvirt.open(sys.argv[1])
conn.setKeepAlive(5, 3)
assert conn.getType() == "storage" and conn.getLibVersion() >= 9000000 and conn.isAlive() and conn.isSecure()

seen, more = [], threading.Condition()


def happened(what):
    with more:
        seen.append(what)
        more.notify()


def wait_for(what):
    with more:
        if not more.wait_for(lambda: what in seen, 60):
            sys.exit("no event %s, only %s" % (what, seen))


conn.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, lambda _, pool, event, detail, __: happened((pool.name(), event)), None)
conn.storagePoolEventRegisterAny(None, libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH, lambda _, pool, __: happened((pool.name(), "refresh")), None)

xml = "<pool type='dir'><name>py</name><target><path>%s</path></target></pool>" % sys.argv[2]
pool = conn.storagePoolDefineXML(xml)
wait_for(("py", libvirt.VIR_STORAGE_POOL_EVENT_DEFINED))
pool.build()
wait_for(("py", libvirt.VIR_STORAGE_POOL_EVENT_CREATED))
pool.create()
wait_for(("py", libvirt.VIR_STORAGE_POOL_EVENT_STARTED))
pool.setAutostart(1)
assert pool.isActive() and pool.isPersistent() and pool.autostart() and pool.info()[0] == libvirt.VIR_STORAGE_POOL_RUNNING
assert conn.storagePoolLookupByName("py").UUIDString() == pool.UUIDString() == conn.storagePoolLookupByUUID(pool.UUID()).UUIDString()
assert conn.storagePoolLookupByTargetPath(sys.argv[2]).name() == "py"
assert [p.name() for p in conn.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)] == conn.listStoragePools() == ["py"]
assert conn.numOfStoragePools() == 1 and conn.numOfDefinedStoragePools() == 0 and conn.listDefinedStoragePools() == []
assert "<storagepoolCapabilities>" in conn.getStoragePoolCapabilities()

vol = pool.createXML("<volume><name>v</name><capacity unit='M'>4</capacity><allocation>0</allocation></volume>")
assert vol.info()[:2] == [libvirt.VIR_STORAGE_VOL_FILE, 4 << 20] and pool.listVolumes() == ["v"] and pool.numOfVolumes() == 1
assert conn.storageVolLookupByPath(vol.path()).key() == vol.key() and conn.storageVolLookupByKey(vol.key()).name() == "v"
assert vol.storagePoolLookupByVolume().name() == "py"

content = os.urandom(3 << 20)


def put(vol, data, flags=0):
    stream, left = conn.newStream(), [data]

    def source(_, size, __):
        piece, left[0] = left[0][:size], left[0][size:]
        return piece

    vol.upload(stream, 0, len(data), flags)
    stream.sendAll(source, None)
    stream.finish()


def get(vol, offset=0, length=0):
    stream, parts = conn.newStream(), []
    vol.download(stream, offset, length)
    stream.recvAll(lambda _, data, __: parts.append(data), None)
    stream.finish()
    return b"".join(parts)


put(vol, content)
wait_for(("py", "refresh"))
assert get(vol) == content + bytes(1 << 20)
assert get(vol, 4096, 8192) == content[4096:12288]

# With holes, as virsh vol-download --sparse does it.
stream, size, parts = conn.newStream(), [0], []
vol.download(stream, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
stream.sparseRecvAll(lambda _, data, __: parts.append(data), lambda _, n, __: size.__setitem__(0, size[0] + n), None)
stream.finish()
assert size[0] + sum(map(len, parts)) == 4 << 20 and size[0] > 0, size

# Broken off by the client: the connection goes on.
stream = conn.newStream()
vol.upload(stream, 0, 0)
stream.send(bytes(1000))
stream.abort()
stream = conn.newStream()
vol.download(stream, 0, 0)
stream.recv(1000)
stream.abort()
put(vol, content)

clone = pool.createXMLFrom("<volume><name>w</name></volume>", vol)
assert get(clone)[:3 << 20] == content
clone.resize(8 << 20)
assert clone.info()[1] == 8 << 20
clone.wipe()
assert not any(get(clone))
clone.wipePattern(libvirt.VIR_STORAGE_VOL_WIPE_ALG_NNSA)
clone.delete()
try:
    clone.info()
    sys.exit("it is there")
except libvirt.libvirtError as e:
    assert e.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL and e.get_error_domain() == libvirt.VIR_FROM_STORAGE, e

vol.delete()
pool.refresh()
pool.destroy()
wait_for(("py", libvirt.VIR_STORAGE_POOL_EVENT_STOPPED))
pool.delete()
wait_for(("py", libvirt.VIR_STORAGE_POOL_EVENT_DELETED))
pool.undefine()
wait_for(("py", libvirt.VIR_STORAGE_POOL_EVENT_UNDEFINED))

readonly = libvirt.openReadOnly(sys.argv[1])
try:
    readonly.storagePoolDefineXML(xml)
    sys.exit("a read-only connection defines")
except libvirt.libvirtError as e:
    assert e.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED, e
print("all done")
