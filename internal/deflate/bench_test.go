package deflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"testing"
)

// benchMessages are the sizes of the benchmarks: a tick, a long chat event, and 66 ticks in an array.
func benchMessages() []struct {
	name string
	all  [][]byte
} {
	var large [][]byte
	some := ticks(50 * 66)
	for i := range 50 {
		large = append(large, bytes.Join(some[i*66:i*66+66], []byte(",")))
	}
	return []struct {
		name string
		all  [][]byte
	}{{"244B", ticks(500)}, {"1KiB", longChat(500)}, {"16KiB", large}}
}

func BenchmarkDecoder(b *testing.B) {
	for _, m := range benchMessages() {
		for _, encoder := range []string{"flate", "own"} {
			var all [][]byte
			size := 0
			for _, msg := range m.all {
				var e Encoder
				e.Reset(12)
				src := deflateStd(b, msg, 6)
				if encoder == "own" {
					src, _ = e.Append(nil, msg)
				}
				if len(src) > 0 {
					all = append(all, src)
				}
				size += len(msg)
			}
			size /= len(m.all)
			b.Run(m.name+"/"+encoder+"/Append", func(b *testing.B) {
				var d Decoder
				dst := make([]byte, 0, 64<<10)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := range b.N {
					d.Reset(1 << 20)
					if _, err := d.Append(dst, all[i%len(all)], true); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(m.name+"/"+encoder+"/compress_flate", func(b *testing.B) {
				in := new(bytes.Reader)
				r := flate.NewReader(in)
				dst := make([]byte, 64<<10)
				for i := range all {
					all[i] = append(bytes.Clone(all[i]), messageTail+"\x01\x00\x00\xff\xff"...)
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := range b.N {
					in.Reset(all[i%len(all)])
					r.(flate.Resetter).Reset(in, nil)
					if _, err := io.ReadFull(r, dst); err != io.ErrUnexpectedEOF {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkEncoder(b *testing.B) {
	for _, m := range benchMessages() {
		size := 0
		for _, msg := range m.all {
			size += len(msg)
		}
		size /= len(m.all)
		b.Run(m.name+"/Append", func(b *testing.B) {
			var e Encoder
			e.Reset(MaxWindowBits)
			dst := make([]byte, 0, 64<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			sent := 0
			for i := range b.N {
				out, ok := e.Append(dst, m.all[i%len(m.all)])
				if !ok {
					out = m.all[i%len(m.all)]
				}
				sent += len(out)
			}
			b.ReportMetric(100*float64(sent)/float64(b.N*size), "%")
		})
		b.Run(m.name+"/without_takeover", func(b *testing.B) {
			var e Encoder
			e.Reset(MaxWindowBits)
			dst := make([]byte, 0, 64<<10)
			b.SetBytes(int64(size))
			sent := 0
			for i := range b.N {
				e.Forget()
				out, ok := e.Append(dst, m.all[i%len(m.all)])
				if !ok {
					out = m.all[i%len(m.all)]
				}
				sent += len(out)
			}
			b.ReportMetric(100*float64(sent)/float64(b.N*size), "%")
		})
		b.Run(m.name+"/compress_flate", func(b *testing.B) {
			var out bytes.Buffer
			w, err := flate.NewWriter(&out, flate.BestSpeed)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			sent := 0
			for i := range b.N {
				out.Reset()
				w.Write(m.all[i%len(m.all)])
				w.Flush()
				sent += out.Len() - len(messageTail)
			}
			b.ReportMetric(100*float64(sent)/float64(b.N*size), "%")
		})
	}
}

// Between two messages, the peer gets others that were compressed for many connections.
func BenchmarkEncoder_Learn(b *testing.B) {
	for _, m := range benchMessages()[:2] {
		for _, others := range []int{1, 10} {
			for _, then := range []string{"Learn", "Forget"} {
				b.Run(fmt.Sprintf("%s/%d/%s", m.name, others, then), func(b *testing.B) {
					var e Encoder
					e.Reset(MaxWindowBits)
					dst := make([]byte, 0, 64<<10)
					sent, size := 0, 0
					for i := range b.N {
						for j := range others {
							if then == "Learn" {
								e.Learn(m.all[(i*7+j*3)%len(m.all)])
							} else {
								e.Forget()
							}
						}
						src := m.all[i%len(m.all)]
						size += len(src)
						if out, ok := e.Append(dst, src); ok {
							src = out
						}
						sent += len(src)
					}
					b.ReportMetric(100*float64(sent)/float64(size), "%")
				})
			}
		}
	}
}
