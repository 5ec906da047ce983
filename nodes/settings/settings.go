// Package settings keeps what an agent must remember across restarts: the
// settings of its streams and what it measured. It is one file of
// go.etcd.io/bbolt with a bucket for each; values are JSON.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/cleaveml/cleave/scheduler"
)

// lockTimeout is how long Open waits for another process to let go of the file.
const lockTimeout = time.Second

// The buckets.
var (
	streams  = []byte("streams")
	profiles = []byte("profiles")
)

// Conflict says that settings were changed by somebody else in between.
type Conflict struct {
	Stream           scheduler.StreamID
	Expected, Stored uint64 // versions; Stored is 0 for a stream that has no settings
}

// Error implements error.
func (c Conflict) Error() string {
	return fmt.Sprintf("settings of stream %s are at version %d, not %d: read them again and repeat the change", c.Stream, c.Stored, c.Expected)
}

// Store is an open file. It is safe for concurrent use; changes are on the disk
// when their call returns. Close it.
type Store struct {
	db *bbolt.DB
}

// Open opens the file, or makes it and its folder. A file that another process
// has, or that is damaged, is an error that says what to do.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	s, err := open(path)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("settings %s: another process has the file open, an agent of the same name perhaps; stop it or give this one another folder", path)
	case errors.Is(err, errDamaged):
		return nil, fmt.Errorf("settings %s: %w; remove the file to start with the defaults", path, err)
	default:
		return nil, fmt.Errorf("settings: %w", err)
	}
}

// errDamaged marks what only another file can mend.
var errDamaged = errors.New("the file is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errDamaged, fmt.Errorf(format, args...))
}

// open reads the whole file once, so that damage shows now. bbolt panics on a
// damaged page and faults where the file is too short for what it says.
func open(path string) (s *Store, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bbolt.DB
	defer func() {
		if r := recover(); r != nil {
			err = damaged("%v", r)
		}
		if err != nil && db != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	var system syscall.Errno
	switch {
	case errors.Is(err, bolterrors.ErrTimeout) || errors.As(err, &system):
		return nil, err
	case err != nil:
		return nil, damaged("%w", err)
	}
	if err := db.View(readAll); err != nil {
		return nil, err
	}
	if err := db.Update(prepare); err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// readAll checks that every value is what it should be.
func readAll(tx *bbolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if string(name) == string(streams) {
				var s scheduler.Settings
				if err := json.Unmarshal(v, &s); err != nil {
					return damaged("stream %q: %w", k, err)
				}
			}
			if !json.Valid(v) {
				return damaged("%s %q is not JSON", name, k)
			}
			return nil
		})
	})
}

func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{streams, profiles} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// Close lets go of the file.
func (s *Store) Close() error { return s.db.Close() }

// Stream returns the settings of a stream, false when there are none.
func (s *Store) Stream(id scheduler.StreamID) (scheduler.Settings, bool, error) {
	var stored scheduler.Settings
	data, ok, err := s.get(streams, string(id))
	if ok {
		err = json.Unmarshal(data, &stored)
	}
	if err != nil {
		return stored, false, fmt.Errorf("settings of stream %s: %w", id, err)
	}
	return stored, ok, nil
}

// SetStream stores settings and returns them with their version, one above that
// of those stored before. Unless expect is 0, it must be the stored version,
// else nothing is stored and the error is a Conflict.
func (s *Store) SetStream(id scheduler.StreamID, to scheduler.Settings, expect uint64) (scheduler.Settings, error) {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(streams)
		var stored scheduler.Settings
		if data := b.Get([]byte(id)); data != nil {
			if err := json.Unmarshal(data, &stored); err != nil {
				return err
			}
		}
		if expect != 0 && expect != stored.Version {
			return Conflict{id, expect, stored.Version}
		}
		to.Version = stored.Version + 1
		data, err := json.Marshal(to)
		if err != nil {
			return err
		}
		return b.Put([]byte(id), data)
	})
	if _, conflict := errors.AsType[Conflict](err); err != nil && !conflict {
		err = fmt.Errorf("settings of stream %s: %w", id, err)
	}
	if err != nil {
		return scheduler.Settings{}, err
	}
	return to, nil
}

// ForgetStream removes the settings of a stream, if there are any.
func (s *Store) ForgetStream(id scheduler.StreamID) error {
	err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(streams).Delete([]byte(id)) })
	if err != nil {
		return fmt.Errorf("settings of stream %s: %w", id, err)
	}
	return nil
}

// Streams returns the settings of all streams.
func (s *Store) Streams() (map[scheduler.StreamID]scheduler.Settings, error) {
	all := map[scheduler.StreamID]scheduler.Settings{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(streams).ForEach(func(k, v []byte) error {
			var stored scheduler.Settings
			if err := json.Unmarshal(v, &stored); err != nil {
				return fmt.Errorf("stream %s: %w", k, err)
			}
			all[scheduler.StreamID(k)] = stored
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return all, nil
}

// Profile returns what PutProfile stored under the key, false when that is
// nothing.
func (s *Store) Profile(key string) ([]byte, bool, error) {
	data, ok, err := s.get(profiles, key)
	if err != nil {
		return nil, false, fmt.Errorf("profile %s: %w", key, err)
	}
	return data, ok, nil
}

// PutProfile stores a JSON value under a key, in place of what was there.
func (s *Store) PutProfile(key string, data []byte) error {
	if !json.Valid(data) {
		return fmt.Errorf("profile %s: it is not JSON", key)
	}
	err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(profiles).Put([]byte(key), data) })
	if err != nil {
		return fmt.Errorf("profile %s: %w", key, err)
	}
	return nil
}

// get copies a value.
func (s *Store) get(bucket []byte, key string) (data []byte, ok bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucket).Get([]byte(key)); v != nil {
			data, ok = bytes.Clone(v), true
		}
		return nil
	})
	return data, ok, err
}
