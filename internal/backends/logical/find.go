package logical

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"storaged/internal/backends"
	"storaged/internal/record"
)

// FindSources gives the volume groups that there are.
func (Backend) FindSources(ctx context.Context, _ record.Source) ([]record.Source, error) {
	out, err := command{"pvs", []string{"--reportformat", "json", "--options", "pv_name,vg_name"}, nil}.run(ctx, backends.Pool{})
	if err != nil {
		return nil, fmt.Errorf("cannot look for volume groups: %w", err)
	}
	found, err := parseDevices(out)
	if err != nil {
		return nil, fmt.Errorf("cannot read which volume groups LVM finds: %w", err)
	}
	return found, nil
}

// parseDevices reads a report of devices, and gives their groups by name. Those that are
// in none are no source yet, and a device that is missing has no path.
func parseDevices(report []byte) (found []record.Source, err error) {
	var is struct {
		Report []struct {
			PV []map[string]string `json:"pv"`
		} `json:"report"`
	}
	if err := json.Unmarshal(report, &is); err != nil {
		return nil, err
	}
	for _, part := range is.Report {
		for _, values := range part.PV {
			r := row{values: values}
			group, device := r.text("vg_name"), r.text("pv_name")
			if r.err != nil {
				return nil, r.err
			}
			if checkGroup(group) == nil {
				found = added(found, group, device)
			}
		}
	}
	slices.SortFunc(found, func(a, b record.Source) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}

// added adds a device to the source that its group is.
func added(found []record.Source, group, device string) []record.Source {
	i := slices.IndexFunc(found, func(s record.Source) bool { return s.Name == group })
	if i < 0 {
		i, found = len(found), append(found, record.Source{Name: group, Format: format})
	}
	if record.CheckPath(device) == nil {
		found[i].Devices = append(found[i].Devices, device)
	}
	return found
}
