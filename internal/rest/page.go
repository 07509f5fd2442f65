package rest

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// paging are the query keys of every list.
var paging = []string{"limit", "cursor"}

// page reads which part of a list is asked for.
func (c *call) page() (contract.Page, error) {
	q := c.r.URL.Query()
	p := contract.Page{Limit: record.DefaultPage, Cursor: q.Get("cursor")}
	v := q.Get("limit")
	if v == "" {
		return p, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > record.MaxPage {
		return p, record.Errorf(record.Invalid, `query key "limit" is a number from 1 to %d, not %s`, record.MaxPage, record.Short(v))
	}
	p.Limit = n
	return p, nil
}

// keyPage is page for a list of answerPage, whose cursors are keys.
func (c *call) keyPage() (contract.Page, error) {
	p, err := c.page()
	if err != nil {
		return p, err
	}
	key, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil {
		return p, record.Errorf(record.Invalid, `query key "cursor" is none that a list gave: %s`, record.Short(p.Cursor))
	}
	p.Cursor = string(key)
	return p, nil
}

// answerPage answers with a part of items, in the order of their keys. The
// cursor is the last key given, so that items that come and go between two
// pages do not shift the others.
func answerPage[T any](c *call, p contract.Page, items []T, key func(T) string) error {
	after := p.Cursor
	rest := slices.DeleteFunc(slices.Clone(items), func(item T) bool { return after != "" && key(item) <= after })
	slices.SortFunc(rest, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	l := contract.List[T]{Items: rest}
	if len(rest) > p.Limit {
		l.Items = rest[:p.Limit]
		next := base64.RawURLEncoding.EncodeToString([]byte(key(l.Items[p.Limit-1])))
		l.Next = &next
	}
	return c.answer(http.StatusOK, l)
}
