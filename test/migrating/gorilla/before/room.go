package before

import (
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	maxMessage = 4096
	writeWait  = 10 * time.Second
	pongWait   = 60 * time.Second
	pingPeriod = 45 * time.Second
)

var upgrader = websocket.Upgrader{
	CheckOrigin: func(r *http.Request) bool {
		origin := r.Header.Get("Origin")
		return origin == "" || origin == "https://app.example.com"
	},
}

type room struct {
	mu      sync.Mutex
	members map[*member]bool
}

type member struct {
	conn *websocket.Conn
	send chan *websocket.PreparedMessage
}

// New returns a room: what one client sends, all get.
func New() http.Handler {
	return &room{members: make(map[*member]bool)}
}

func (r *room) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	conn, err := upgrader.Upgrade(w, req, nil)
	if err != nil {
		return // Upgrade has answered
	}
	m := &member{conn: conn, send: make(chan *websocket.PreparedMessage, 64)}
	r.mu.Lock()
	r.members[m] = true
	r.mu.Unlock()
	go m.write()
	r.read(m)
}

func (r *room) read(m *member) {
	defer m.conn.Close()
	defer r.remove(m)
	m.conn.SetReadLimit(maxMessage)
	m.conn.SetReadDeadline(time.Now().Add(pongWait))
	m.conn.SetPongHandler(func(string) error {
		return m.conn.SetReadDeadline(time.Now().Add(pongWait))
	})
	for {
		kind, data, err := m.conn.ReadMessage()
		if err != nil {
			if websocket.IsUnexpectedCloseError(err, websocket.CloseGoingAway, websocket.CloseNormalClosure) {
				log.Print(err)
			}
			return
		}
		if kind != websocket.TextMessage {
			text := websocket.FormatCloseMessage(websocket.CloseUnsupportedData, "text only")
			m.conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(writeWait))
			return
		}
		r.broadcast(data)
	}
}

func (r *room) broadcast(data []byte) {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, data)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for m := range r.members {
		select {
		case m.send <- message:
		default: // the client reads too slowly
			delete(r.members, m)
			close(m.send)
		}
	}
}

func (r *room) remove(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members[m] {
		delete(r.members, m)
		close(m.send)
	}
}

func (m *member) write() {
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	defer m.conn.Close()
	for {
		select {
		case message, ok := <-m.send:
			if !ok {
				return
			}
			m.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if err := m.conn.WritePreparedMessage(message); err != nil {
				return
			}
		case <-ticker.C:
			m.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if err := m.conn.WriteMessage(websocket.PingMessage, nil); err != nil {
				return
			}
		}
	}
}
