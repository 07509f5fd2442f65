package record

// SettingError is what is wrong with a setting of the daemon. Its message says which that is.
type SettingError struct {
	Key string // as in the config file, with dots; of the second of several tables notify[1].url
	Err error
}

func (e *SettingError) Error() string { return e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// Setting makes one of a value that cannot be: nil of nil.
func Setting(key string, err error) error {
	if err == nil {
		return nil
	}
	return &SettingError{key, err}
}

// BadSetting makes one.
func BadSetting(key, format string, args ...any) error {
	return &SettingError{key, Errorf(Invalid, format, args...)}
}
