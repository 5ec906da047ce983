package rivals

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A request by a bare stream is the number of bytes that follow, 4 bytes, and
// whether they are to come back, 1 byte; the answer is as many bytes as were
// sent, or confirmed.
const (
	headBytes = 5
	confirmed = 8
	joined    = 16 << 10 // go out with the head in one write
	mostBytes = 64 << 20
)

var errTooLarge = errors.New("a request is larger than any here")

// room gives out memory for requests.
type room struct{ pool sync.Pool }

func (r *room) take(n int) *[]byte {
	b, ok := r.pool.Get().(*[]byte)
	if !ok || cap(*b) < n {
		fresh := make([]byte, n)
		b = &fresh
	}
	*b = (*b)[:n]
	return b
}

func (r *room) give(b *[]byte) { r.pool.Put(b) }

// send writes a request.
func (r *room) send(w io.Writer, data []byte, echo bool) error {
	first := r.take(headBytes + min(len(data), joined))
	defer r.give(first)
	b := *first
	binary.BigEndian.PutUint32(b, uint32(len(data)))
	b[4] = 0
	if echo {
		b[4] = 1
	}
	sent := copy(b[headBytes:], data)
	if _, err := w.Write(b); err != nil {
		return err
	}
	if sent == len(data) {
		return nil
	}
	_, err := w.Write(data[sent:])
	return err
}

// hear reads the answer to a request of n bytes.
func (r *room) hear(from io.Reader, n int, echo bool) error {
	if !echo {
		n = confirmed
	}
	b := r.take(n)
	defer r.give(b)
	_, err := io.ReadFull(from, *b)
	return err
}

// answer serves one request. io.EOF says that there was none.
func (r *room) answer(s io.ReadWriter) error {
	head := r.take(headBytes)
	defer r.give(head)
	if _, err := io.ReadFull(s, *head); err != nil {
		return err
	}
	n, echo := int(binary.BigEndian.Uint32(*head)), (*head)[4] == 1
	if n > mostBytes {
		return fmt.Errorf("%w: %d bytes", errTooLarge, n)
	}
	b := r.take(max(n, confirmed))
	defer r.give(b)
	if _, err := io.ReadFull(s, (*b)[:n]); err != nil {
		return err
	}
	if !echo {
		n = confirmed
	}
	_, err := s.Write((*b)[:n])
	return err
}
