package procfs

import (
	"bufio"
	"os"
	"strings"
)

// exportsTable lists the file systems of servers of NFS that are mounted here
// (Linux fs/nfs/client.c).
const exportsTable = "/proc/fs/nfsfs/volumes"

// Exported is the id that a server gives the file system which is mounted here as a device
// of that major:minor, in hexadecimal as MAJOR:MINOR; "" where there is none.
func Exported(device string) string {
	f, err := os.Open(exportsTable)
	if err != nil {
		return ""
	}
	defer f.Close() // opened for reading
	for in := bufio.NewScanner(f); in.Scan(); {
		// NV SERVER PORT DEV FSID FSC
		if fields := strings.Fields(in.Text()); len(fields) > 4 && fields[3] == device {
			return fields[4]
		}
	}
	return ""
}
