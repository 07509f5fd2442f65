package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"storaged/internal/record"
	"storaged/internal/tool"
)

// Repair is what a check may change.
type Repair string

// What is repaired. Leaks are clusters that nobody uses; that they are given back
// changes no content.
const (
	RepairNothing Repair = ""
	RepairLeaks   Repair = "leaks"
	RepairAll     Repair = "all"
)

// Checked is what a check found. The numbers are of clusters.
type Checked struct {
	Errors       int64 // of the check itself: what it could not read
	Corruptions  int64 // that were found and stay
	Leaks        int64 // that were found and stay
	FixedCorrupt int64 // corruptions that were repaired
	FixedLeaks   int64 // leaks that were given back
	Clusters     int64 // in all, 0 where the format does not say
	Allocated    int64
	Compressed   int64
	Fragmented   int64
	EndOfImage   int64 // bytes of the file that it uses
}

// Bad reports whether the image is corrupt, or could not be checked.
func (c Checked) Bad() bool { return c.Errors > 0 || c.Corruptions > 0 }

// checkOutput is more than a check says, bytes.
const checkOutput = 64 << 10

// Exit codes of qemu-img check (qemu-img(1)).
const (
	exitCorrupt     = 2
	exitLeaks       = 3
	exitUnsupported = 63
)

// Check checks the tables of an image, and repairs them. What the image stands on is
// not looked at. It is record.Unsupported where the format has no check. To repair
// needs the image to itself.
func Check(ctx context.Context, l Layer, r Repair, c Child) (Checked, error) {
	options := []string{"--output=json"}
	if r != RepairNothing {
		options = append(options, "-r", string(r))
	}
	if len(l.Extents) > 0 {
		return Checked{}, record.Errorf(record.Unsupported, "an image of format %s whose content lies in other files cannot be checked", l.Format)
	}
	l.Backing = nil
	g := &graph{}
	cmd := g.img(g.layer(l, r != RepairNothing), c)
	cmd.Verb, cmd.Options, cmd.Output = "check", options, checkOutput
	ctx, cancel := within(ctx, due(sizeOf(l.File)))
	defer cancel()
	out, err := cmd.Run(ctx)
	if end, ok := errors.AsType[*tool.EndError](err); ok {
		switch end.Exit {
		case exitCorrupt, exitLeaks:
			err = nil
		case exitUnsupported:
			return Checked{}, record.Errorf(record.Unsupported, "images of format %s cannot be checked, or not be repaired", l.Format)
		}
	}
	if err != nil {
		return Checked{}, failed("check", l.Format, l.File, err)
	}
	return parseCheck(out)
}

// img is a command of qemu-img about a node.
func (g *graph) img(node string, c Child) tool.Command {
	return tool.Command{
		Program: tool.QEMUImg, Files: g.files, Secrets: g.secrets, Policy: g.policy, Operands: []string{g.inline(node)}, Lock: c.Lock,
		Limits: tool.Limits{AddressSpace: addressSpace, Files: descriptors},
	}
}

// inline is a node with all below it as the name of a file: qemu-img has no other way
// to say that nothing in a header is to be followed.
func (g *graph) inline(name string) string {
	b, err := json.Marshal(g.tree(name))
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	return "json:" + string(b)
}

func (g *graph) tree(name string) object {
	out := object{}
	for _, node := range g.nodes {
		if node["node-name"] != name {
			continue
		}
		for key, value := range node {
			below, isNode := value.(string)
			switch {
			case key == "node-name":
			case isNode && (key == "file" || key == "data-file"):
				out[key] = g.tree(below)
			default:
				out[key] = value
			}
		}
	}
	return out
}

// parseCheck reads what qemu-img check says, which leaves out what is 0.
func parseCheck(out []byte) (Checked, error) {
	var said struct {
		Errors      int64 `json:"check-errors"`
		Corruptions int64 `json:"corruptions"`
		Leaks       int64 `json:"leaks"`
		FixedBad    int64 `json:"corruptions-fixed"`
		FixedLeaks  int64 `json:"leaks-fixed"`
		Total       int64 `json:"total-clusters"`
		Allocated   int64 `json:"allocated-clusters"`
		Compressed  int64 `json:"compressed-clusters"`
		Fragmented  int64 `json:"fragmented-clusters"`
		End         int64 `json:"image-end-offset"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return Checked{}, fmt.Errorf("what %s says of its check cannot be read: %w", tool.QEMUImg.Name, err)
	}
	return Checked{
		Errors: said.Errors, Corruptions: said.Corruptions, Leaks: said.Leaks, FixedCorrupt: said.FixedBad, FixedLeaks: said.FixedLeaks,
		Clusters: said.Total, Allocated: said.Allocated, Compressed: said.Compressed, Fragmented: said.Fragmented, EndOfImage: said.End,
	}, nil
}
