package wstest

import (
	"errors"
	"fmt"
	"slices"
)

// This file is as much of HPACK (RFC 7541) as a test client needs: it writes literals without
// Huffman codes, and reads what a server sends to a client with a dynamic table of size 0.

// appendField appends a header field that is not indexed (section 6.2.2).
func appendField(b []byte, name, value string) []byte {
	b = append(b, 0)
	b = append(appendInt(b, len(name)), name...)
	return append(appendInt(b, len(value)), value...)
}

// appendInt appends the length of a string (section 5.1), with a prefix of 7 bits.
func appendInt(b []byte, n int) []byte {
	if n < 127 {
		return append(b, byte(n))
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

var errFields = errors.New("the header block of the server ends too early or uses its dynamic table")

// fields decodes a header block.
func fields(b []byte) (all [][2]string, err error) {
	for len(b) > 0 && err == nil {
		var f [2]string
		first, n := b[0], 0
		switch {
		case first&0x80 != 0:
			if n, b, err = takeInt(b, 7); err == nil && (n < 1 || n > len(staticTable)) {
				return nil, errFields
			} else if err == nil {
				f = staticTable[n-1]
			}
		case first&0xE0 == 0x20: // the size of the dynamic table
			_, b, err = takeInt(b, 5)
			continue
		case first&0x40 != 0:
			f, b, err = takeLiteral(b, 6)
		default:
			f, b, err = takeLiteral(b, 4)
		}
		all = append(all, f)
	}
	return all, err
}

// takeLiteral decodes a literal field (section 6.2), whose name has an index of prefix bits.
func takeLiteral(b []byte, prefix int) (f [2]string, rest []byte, err error) {
	index, b, err := takeInt(b, prefix)
	switch {
	case err != nil || index > len(staticTable):
		return f, nil, errFields
	case index > 0:
		f[0] = staticTable[index-1][0]
	default:
		if f[0], b, err = takeString(b); err != nil {
			return f, nil, err
		}
	}
	f[1], b, err = takeString(b)
	return f, b, err
}

func takeInt(b []byte, prefix int) (n int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errFields
	}
	most := 1<<prefix - 1
	n, b = int(b[0])&most, b[1:]
	for shift := 0; n >= most; shift += 7 {
		if len(b) == 0 || shift > 21 {
			return 0, nil, errFields
		}
		digit := b[0]
		n, b = n+int(digit&0x7F)<<shift, b[1:]
		if digit&0x80 == 0 {
			break
		}
	}
	return n, b, nil
}

func takeString(b []byte) (s string, rest []byte, err error) {
	if len(b) == 0 {
		return "", nil, errFields
	}
	coded := b[0]&0x80 != 0
	n, b, err := takeInt(b, 7)
	if err != nil || n > len(b) {
		return "", nil, errFields
	}
	if s = string(b[:n]); coded {
		s, err = decodeHuffman(b[:n])
	}
	return s, b[n:], err
}

// decodeHuffman decodes the code of section 5.2, which is canonical: the codes of a length
// follow each other in the order of their symbols, behind those of the shorter lengths.
func decodeHuffman(b []byte) (string, error) {
	var out []byte
	code, length := 0, 0
	for i := range len(b) * 8 {
		code, length = code<<1|int(b[i/8]>>(7-i%8)&1), length+1
		if length > 30 {
			return "", fmt.Errorf("%x is not in the Huffman code of RFC 7541", b)
		}
		if at := code - huffman.first[length]; at >= 0 && at < len(huffman.symbols[length]) {
			out = append(out, huffman.symbols[length][at])
			code, length = 0, 0
		}
	}
	return string(out), nil // what is left is padding
}

var huffman = func() (h struct {
	first   [31]int
	symbols [31][]byte
}) {
	for symbol, length := range huffmanLengths {
		h.symbols[length] = append(h.symbols[length], byte(symbol))
	}
	for length := 1; length < len(h.first); length++ {
		h.first[length] = (h.first[length-1] + len(h.symbols[length-1])) << 1
	}
	return h
}()

// huffmanLengths are the lengths of the codes of RFC 7541 appendix B.
var huffmanLengths = [256]byte{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

// staticTable is that of RFC 7541 appendix A.
var staticTable = [][2]string{
	{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"}, {":path", "/index.html"},
	{":scheme", "http"}, {":scheme", "https"}, {":status", "200"}, {":status", "204"}, {":status", "206"},
	{":status", "304"}, {":status", "400"}, {":status", "404"}, {":status", "500"}, {"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""}, {"accept", ""},
	{"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""},
	{"cache-control", ""}, {"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""},
	{"content-length", ""}, {"content-location", ""}, {"content-range", ""}, {"content-type", ""},
	{"cookie", ""}, {"date", ""}, {"etag", ""}, {"expect", ""}, {"expires", ""}, {"from", ""}, {"host", ""},
	{"if-match", ""}, {"if-modified-since", ""}, {"if-none-match", ""}, {"if-range", ""},
	{"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""}, {"location", ""}, {"max-forwards", ""},
	{"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""}, {"referer", ""}, {"refresh", ""},
	{"retry-after", ""}, {"server", ""}, {"set-cookie", ""}, {"strict-transport-security", ""},
	{"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""}, {"via", ""}, {"www-authenticate", ""},
}

// value returns the value of a field, "" if there is none.
func value(fields [][2]string, name string) string {
	if i := slices.IndexFunc(fields, func(f [2]string) bool { return f[0] == name }); i >= 0 {
		return fields[i][1]
	}
	return ""
}
