package rest

import (
	"reflect"
	"strings"
	"sync"
)

// withLists gives v with lists and maps that are there even when they are empty: []
// and {} in JSON, never null, except those that are left out then. It changes a
// copy: what the service gave stays as it is.
func withLists(v any) any {
	c := reflect.New(reflect.TypeOf(v)).Elem()
	c.Set(reflect.ValueOf(v))
	addLists(c)
	return c.Interface()
}

func addLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range listed(v.Type()) {
			if at := v.Field(f.index); !f.omitted || !at.IsZero() {
				addLists(at)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			c := reflect.New(v.Type().Elem())
			c.Elem().Set(v.Elem())
			addLists(c.Elem())
			v.Set(c)
		}
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
	case reflect.Slice:
		if !v.IsNil() && !hasLists(v.Type().Elem()) {
			return
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(c, v)
		for i := range c.Len() {
			addLists(c.Index(i))
		}
		v.Set(c)
	}
}

func hasLists(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Map:
		return true
	case reflect.Pointer:
		return hasLists(t.Elem())
	}
	return t.Kind() == reflect.Struct && len(listed(t)) > 0
}

// listField is a field that is a list or has one in it.
type listField struct {
	index   int
	omitted bool // when it is empty
}

// listFields remembers what listed has found: to look at a type takes longer than
// to write a value of it.
var listFields sync.Map

func listed(t reflect.Type) (fields []listField) {
	if known, ok := listFields.Load(t); ok {
		return known.([]listField)
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && hasLists(f.Type) {
			fields = append(fields, listField{i, strings.HasSuffix(f.Tag.Get("json"), ",omitempty")})
		}
	}
	listFields.Store(t, fields)
	return fields
}
