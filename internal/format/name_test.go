package format

import (
	"slices"
	"testing"
)

func TestPathsThatANameMeans(t *testing.T) {
	for name, want := range map[string][]string{
		"":                        nil,
		"base.raw":                {"base.raw"},
		"../a/./b//c":             {"../a/./b//c"},
		"/a/b:c":                  {"/a/b:c"},
		"a/b:c":                   {"a/b:c"},
		"file:/a/b":               {"/a/b"},
		"file:b":                  {"b"},
		"file:///a/b":             {"///a/b"},
		"host_device:/dev/sdz":    {"/dev/sdz"},
		"nbd:localhost:10809":     nil,
		"nbd:unix:/run/s":         nil,
		"nbd+unix:///e?socket=/s": nil,
		"https://host/a.qcow2":    nil,
		"a\x00b":                  nil,
		`json:{"driver":"qcow2","file":{"driver":"file","filename":"/a/b"}}`:              {"/a/b"},
		`json:{"driver":"qcow2","file.driver":"file","file.filename":"b"}`:                {"b"},
		`json:{"file":{"filename":"/a"},"backing":{"file":{"filename":"file:/b"}}}`:       {"/a", "/b"},
		`json:{"children":[{"file.filename":"/a"},{"driver":"nbd","path":"/s"}]}`:         {"/a"},
		`json:{"driver":"nbd","server":{"type":"unix","path":"/s"},"filename":"nbd:a:1"}`: nil,
		`json:{`:                     nil,
		`json:"text"`:                nil,
		`json:{"filename":["/a"]}`:   nil,
		`json:{"filename":"json:{"}`: nil,
	} {
		got := Paths(name)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q means %q, want %q", name, got, want)
		}
	}
}
