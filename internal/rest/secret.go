package rest

import (
	"net/http"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// All that there is of secrets is for members alone.

func listSecrets(c *call) error {
	all, err := c.svc.Secrets(c.ctx())
	return c.result(contract.List[record.Secret]{Items: all}, err)
}

func putSecret(c *call) error {
	if err := c.noIfMatch("a secret has"); err != nil {
		return err
	}
	var r contract.SecretSet
	if err := c.decode(&r); err != nil {
		return err
	}
	s, err := c.onSecret()
	if err != nil {
		return err
	}
	return c.result(c.svc.SetSecret(c.ctx(), s, c.r.PathValue("secret"), r.Value))
}

func deleteSecret(c *call) error {
	if err := c.noIfMatch("a secret has"); err != nil {
		return err
	}
	s, err := c.onSecret()
	if err == nil {
		err = c.svc.DeleteSecret(c.ctx(), s, c.r.PathValue("secret"))
	}
	if err != nil {
		return err
	}
	c.WriteHeader(http.StatusNoContent)
	return nil
}

// onSecret is who asks for a change, which may be tried only.
func (c *call) onSecret() (s contract.Submit, err error) {
	s.Caller = c.caller
	s.DryRun, err = c.flag("dry_run")
	return s, err
}
