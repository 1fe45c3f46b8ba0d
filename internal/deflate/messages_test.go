package deflate

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// ticks returns n messages of a market feed, of about 244 bytes.
func ticks(n int) [][]byte {
	r := rand.New(rand.NewPCG(5, 6))
	symbols := []string{"BTC-USD", "ETH-USD", "SOL-EUR", "ADA-EUR", "XRP-USD"}
	var all [][]byte
	for i := range n {
		price := 100 + r.Float64()*60000
		all = append(all, fmt.Appendf(nil, `{"type":"ticker","sequence":%d,"product_id":"%s","price":"%.2f","open_24h":"%.2f","volume_24h":"%.8f",`+
			`"best_bid":"%.2f","best_ask":"%.2f","side":"%s","time":"2026-05-14T12:%02d:%02d.%06dZ","trade_id":%d,"last_size":"%.8f"}`,
			37475248783+int64(i), symbols[r.IntN(len(symbols))], price, price*1.02, r.Float64()*10000, price-0.01, price+0.01,
			[]string{"buy", "sell"}[r.IntN(2)], i/60%60, i%60, r.IntN(1000000), 370843401+i, r.Float64()))
	}
	return all
}

var words = strings.Fields(`the a to of and is that it in you for on have with this be are not we can they what do at
	but if was so there just like about would think know when people really going time make good want some more how
	because than other could into should after then work look need new back where these first please thanks meeting
	server deploy release tomorrow morning question answer problem channel message update broken fixed review`)

// sentence returns n words.
func sentence(r *rand.Rand, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		// Frequent words come first.
		b.WriteString(words[int(float64(len(words))*r.Float64()*r.Float64())])
	}
	return b.String()
}

// chat returns n events of a chat, of about 223 bytes.
func chat(n int) [][]byte { return chatOf(n, 12) }

// longChat returns n events of a chat, of about a kilobyte.
func longChat(n int) [][]byte { return chatOf(n, 170) }

func chatOf(n, length int) [][]byte {
	r := rand.New(rand.NewPCG(7, 8))
	users := []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}
	var all [][]byte
	for i := range n {
		user := r.IntN(len(users))
		all = append(all, fmt.Appendf(nil, `{"event":"message","room":"general","id":"%016x","user":{"id":%d,"name":"%s"},"ts":%d,"edited":false,"text":"%s"}`,
			r.Uint64(), 1000+user, users[user], 1778760000000+int64(i)*1371, sentence(r, length/2+r.IntN(length))))
	}
	return all
}
