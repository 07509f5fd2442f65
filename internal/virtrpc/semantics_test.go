package virtrpc_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
)

// live gives the only job that has not ended.
func (p *place) live() record.Job {
	p.t.Helper()
	all, err := p.Service.Jobs(p.t.Context(), contract.JobFilter{States: []string{"live"}}, contract.Page{})
	if err != nil || len(all.Items) != 1 {
		p.t.Fatalf("live are %+v, %v", all.Items, err)
	}
	return all.Items[0]
}

// end waits for the end of a job.
func (p *place) end(j record.Job) record.Job {
	p.t.Helper()
	j, err := p.Service.WaitJob(p.t.Context(), j.ID, virtrpctest.Patience)
	if err != nil || !j.State.Terminal() {
		p.t.Fatalf("job %d is %s, %v", j.Number, j.State, err)
	}
	return j
}

// slowly limits what jobs move, in bytes a second; "null" is no limit.
func (p *place) slowly(rate string) {
	p.t.Helper()
	if _, err := p.Service.PatchLimits(p.t.Context(), contract.LimitsPatch{Rate: []byte(rate)}); err != nil {
		p.t.Fatal(err)
	}
}

// uploads begins an upload of a volume.
func (p *place) uploads(volume string) wire.Header {
	p.t.Helper()
	h := p.Begin(wire.StorageVolUpload, &wire.VolStreamArgs{Vol: wire.Vol{Pool: "p", Name: volume}})
	if err := p.Answer(h, nil); err != nil {
		p.t.Fatal(err)
	}
	h.Type = wire.Stream
	return h
}

// An upload of nothing is none, as libvirt has it; one whose job has failed is no success,
// also where nothing had come.
func TestUploadOfNothingSucceedsOnlyWithItsJob(t *testing.T) {
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p disk 1M")
	for _, canceled := range []bool{false, true} {
		h := p.uploads("disk")
		j := p.live()
		if canceled {
			if _, err := p.Service.CancelJob(t.Context(), record.Caller{Role: record.RootRole}, j.ID, contract.JobCancel{}); err != nil {
				t.Fatal(err)
			}
			p.end(j)
		}
		p.Send(h, nil)
		got, err := p.Next()
		if err != nil || got.Status == wire.Error != canceled {
			t.Fatalf("canceled %v: the end is answered by %+v, %v", canceled, got, err)
		}
		if err := got.Decode(nil); canceled && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("job %d", j.Number))) {
			t.Errorf("it is answered by %v", err)
		}
	}
}

// The job of a transfer ends with its client, whose it is.
func TestTransfersEndWithTheirClient(t *testing.T) {
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p up 64M")
	p.virsh("", "vol-create-as p down 64M")
	for volume, procedure := range map[string]wire.Procedure{"up": wire.StorageVolUpload, "down": wire.StorageVolDownload} {
		c := virtrpctest.Open(t, p.Socket)
		h := c.Begin(procedure, &wire.VolStreamArgs{Vol: wire.Vol{Pool: "p", Name: volume}})
		if err := c.Answer(h, nil); err != nil {
			t.Fatal(err)
		}
		h.Type, h.Status = wire.Stream, wire.Continue
		if procedure == wire.StorageVolUpload {
			c.Send(h, noise(1<<20))
		}
		j := p.live()
		if o := j.Owner; o.UID != os.Getuid() || o.PID != os.Getpid() || o.Command == "" || o.Via != "libvirt" {
			t.Errorf("%s is of %+v", j.Kind, o)
		}
		c.Conn.Close()
		if j = p.end(j); j.State != record.Canceled && j.State != record.Failed {
			t.Errorf("%s is %s", j.Kind, j.State)
		}
	}
}

// While a job fills a volume, what is allocated is what is durable of it.
func TestAllocationOfACopyGrowsWithItsJob(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p disk 16M")
	p.virsh("", "vol-upload disk "+p.given("content", noise(size))+" p")
	for _, format := range []string{"raw", "qcow2"} {
		p.slowly("2000000")
		doc := fmt.Sprintf("<volume><name>%s</name><capacity unit='M'>16</capacity><target><format type='%[1]s'/></target></volume>", format)
		call := p.Begin(wire.StorageVolCreateXMLFrom, &wire.VolCreateFromArgs{Pool: p.pool(), XML: doc, From: wire.Vol{Pool: "p", Name: "disk"}})
		seen := p.growing(format)
		if err := p.Answer(call, nil); err != nil {
			t.Fatal(err)
		}
		var info wire.VolInfo
		p.Do(wire.StorageVolGetInfo, &wire.Vol{Pool: "p", Name: format}, &info)
		if len(seen) < 3 || info.Allocation < size {
			t.Errorf("%s: seen were %v, and %d in the end", format, seen, info.Allocation)
		}
	}
}

// growing polls a volume that a job fills until that has ended, and gives what it was
// shown as allocated, each once. The volume is ready, and shown with all that its file
// has, just before its job is seen to have ended. Nothing limits the job any more when
// enough was seen.
func (p *place) growing(volume string) (seen []uint64) {
	p.t.Helper()
	c := virtrpctest.Open(p.t, p.Socket)
	last := uint64(0)
	for {
		var info wire.VolInfo
		err := c.Call(wire.StorageVolGetInfo, &wire.Vol{Pool: "p", Name: volume}, &info)
		v, verr := p.Service.Volume(p.t.Context(), "p", volume)
		all, jerr := p.Service.Jobs(p.t.Context(), contract.JobFilter{Volumes: []string{volume}}, contract.Page{})
		switch {
		case jerr != nil:
			p.t.Fatal(jerr)
		case len(all.Items) > 0 && all.Items[0].State.Terminal() || verr == nil && v.State == record.VolumeReady:
			return seen
		case err != nil || len(all.Items) == 0:
			continue // it is not there yet
		case info.Allocation < last || info.Allocation > uint64(all.Items[0].Progress.Done):
			p.t.Errorf("%s: allocated are %d, after %d; durable are %d", volume, info.Allocation, last, all.Items[0].Progress.Done)
		case info.Allocation > last:
			if seen = append(seen, info.Allocation); len(seen) == 3 {
				p.slowly("null")
			}
		}
		last = info.Allocation
	}
}

// pool names the pool.
func (p *place) pool() (found wire.Pool) {
	p.t.Helper()
	p.Do(wire.StoragePoolLookupByName, new(wire.Text("p")), &found)
	return found
}

// Volumes are encrypted by the secrets that documents name by UUID or usage, and their own
// documents name them again.
func TestSecretsAreNamedAsInLibvirt(t *testing.T) {
	p := newPlace(t, "")
	const id = "5b4f5d5c-8f1f-4c0b-9b0e-2f6a1d3c7e11"
	for name, attribute := range map[string]string{id: "uuid", "disks": "usage"} {
		if _, err := p.Service.SetSecret(t.Context(), contract.Submit{Caller: record.Caller{Role: record.RootRole}}, name, []byte("secret")); err != nil {
			t.Fatal(err)
		}
		says := fmt.Sprintf("<secret type='passphrase' %s='%s'/>", attribute, name)
		for _, format := range []string{"raw", "qcow2"} {
			vol := wire.Vol{Pool: "p", Name: attribute + "." + format}
			doc := fmt.Sprintf("<volume><name>%s</name><capacity unit='M'>1</capacity><target><format type='%s'/><encryption format='luks'>%s<cipher name='aes' size='128' mode='xts' hash='sha1'/><ivgen name='plain64'/></encryption></target></volume>",
				vol.Name, format, says)
			p.Do(wire.StorageVolCreateXML, &wire.VolCreateArgs{Pool: p.pool(), XML: doc}, nil)
			var shown wire.Text
			p.Do(wire.StorageVolGetXMLDesc, &wire.VolFlags{Vol: vol}, &shown)
			if !strings.Contains(string(shown), says) || !strings.Contains(string(shown), "<format type='"+format+"'/>") {
				t.Errorf("it is shown as\n%s", shown)
			}
		}
	}
	missing := "<volume><name>v</name><capacity>1</capacity><target><encryption format='luks'><secret type='passphrase' usage='gone'/></encryption></target></volume>"
	if err := p.Call(wire.StorageVolCreateXML, &wire.VolCreateArgs{Pool: p.pool(), XML: missing}, nil); err == nil || !strings.Contains(err.Error(), `no secret "gone"`) {
		t.Errorf("one that is not there: %v", err)
	}
}
