package virtxml

import "slices"

// poolType is what libvirt's documents of a type of pools have.
type poolType struct {
	name string
	// Of the source's elements it has those that are set. Hosts and a directory are
	// needed where they are had, and devices where nothing else is.
	hosts, devices, directory, sourceName, initiator bool

	format  string   // of the source where none is said; "" where sources have none
	formats []string // of sources
	volume  string   // format of a volume where none is said; "" where volumes have none
	volumes []string // formats of volumes

	auth       string // how this host may have to log in; "": it need not
	targetless bool   // it is not on this host
	under      string // its target is the source's name in that directory
}

var (
	fileFormats = []string{"none", "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow", "qcow2", "qed", "vmdk"}
	fsFormats   = []string{"auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf", "gfs", "gfs2", "vfat", "hfs+", "xfs", "ocfs2", "vmfs"}
	netFormats  = []string{"auto", "nfs", "glusterfs", "cifs"}
	diskFormats = []string{"unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"}
	partFormats = []string{"none", "linux", "fat16", "fat32", "linux-swap", "linux-lvm", "linux-raid", "extended"}
)

// poolTypes are all that libvirt names, in its order.
var poolTypes = []poolType{
	{name: "dir", volume: "raw", volumes: fileFormats},
	{name: "fs", devices: true, format: "auto", formats: fsFormats, volume: "raw", volumes: fileFormats},
	{name: "netfs", hosts: true, directory: true, format: "auto", formats: netFormats, volume: "raw", volumes: fileFormats},
	{name: "logical", sourceName: true, devices: true, format: "lvm2", formats: []string{"unknown", "lvm2"}, under: "/dev/"},
	{name: "disk", devices: true, format: "unknown", formats: diskFormats, volume: "none", volumes: partFormats},
	{name: "iscsi", hosts: true, devices: true, initiator: true, auth: "chap"},
	{name: "iscsi-direct", hosts: true, devices: true, initiator: true, auth: "chap", targetless: true},
	{name: "scsi"},
	{name: "mpath"},
	{name: "rbd", hosts: true, sourceName: true, auth: "ceph", volume: "raw", volumes: []string{}, targetless: true},
	{name: "sheepdog", hosts: true, sourceName: true, targetless: true},
	{name: "gluster", hosts: true, sourceName: true, directory: true, volume: "raw", volumes: fileFormats, targetless: true},
	{name: "zfs", sourceName: true, devices: true, under: "/dev/zvol/"},
	{name: "vstorage", sourceName: true, volume: "raw", volumes: fileFormats},
}

// poolTypeOf is the one of that name.
func poolTypeOf(name string) (poolType, bool) {
	i := slices.IndexFunc(poolTypes, func(t poolType) bool { return t.name == name })
	if i < 0 {
		return poolType{}, false
	}
	return poolTypes[i], true
}

// ofSource checks the format of a source, and gives the one where none is said.
func (t poolType) ofSource(format string) (string, error) {
	if t.format == "" {
		return "", nil
	}
	return oneOf(format, t.format, t.formats, "unknown pool format type %s")
}

// ofVolume checks the format of a volume, and gives the one where none is said. Formats
// that only we can make are taken too.
func (t poolType) ofVolume(format string) (string, error) {
	switch {
	case t.volume == "":
		return "", nil
	case format == "none" && t.volume != "none":
		return "", refuse(Unsupported, "unknown volume format type none")
	case t.volume == "raw" && slices.Contains(ours, format):
		return format, nil
	}
	return oneOf(format, t.volume, t.volumes, "unknown volume format type %s")
}

// ours are formats of volumes that libvirt has no name for.
var ours = []string{"vhdx"}

// oneOf is the value, or the default where there is none, if it is one of a list.
func oneOf(value, none string, list []string, refusal string) (string, error) {
	if value == "" {
		return none, nil
	}
	if !slices.Contains(list, value) {
		return "", refuse(Unsupported, refusal, value)
	}
	return value, nil
}

// Number is libvirt's of a type of pools (virStoragePoolType); -1: it has none.
func Number(name string) int {
	return slices.IndexFunc(poolTypes, func(t poolType) bool { return t.name == name })
}
