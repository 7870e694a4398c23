package tracebaton

import "encoding/binary"

func putText(out []byte, text string) []byte {
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(text))), text...)
}

func putOptional(out []byte, encoded []byte) []byte {
	if encoded == nil {
		return append(out, 0)
	}
	return append(append(out, 1), encoded...)
}

func putOptionalText(out []byte, text *string) []byte {
	if text == nil {
		return append(out, 0)
	}
	return putText(append(out, 1), *text)
}

// latin1 makes one character of each octet.
func latin1(octets string) string {
	characters := make([]rune, len(octets))
	for i := range len(octets) {
		characters[i] = rune(octets[i])
	}
	return string(characters)
}

// reader takes values from the front of what the module returned, which is well-formed.
type reader struct{ rest []byte }

func (r *reader) take(count int) []byte {
	taken := r.rest[:count]
	r.rest = r.rest[count:]
	return taken
}

func (r *reader) number() int { return int(binary.LittleEndian.Uint32(r.take(4))) }

func (r *reader) text() string { return string(r.take(r.number())) }

func (r *reader) optionalText() *string {
	if r.take(1)[0] == 0 {
		return nil
	}
	text := r.text()
	return &text
}

// optionalSpan takes a span context as it is encoded: two texts, the flags, a text, whether it is remote.
func (r *reader) optionalSpan() []byte {
	if r.take(1)[0] == 0 {
		return nil
	}
	from := r.rest
	r.text()
	r.text()
	r.take(1)
	r.text()
	r.take(1)
	return from[:len(from)-len(r.rest)]
}
