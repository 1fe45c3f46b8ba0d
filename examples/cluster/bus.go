package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName = "CHAT"
	subject    = "chat.messages"

	// requestTimeout limits every request to NATS.
	requestTimeout = 5 * time.Second
	// publishTimeout limits how long a user waits for the result of a message.
	publishTimeout = 3 * time.Second
	// repeatWindow is the time in which NATS recognizes a message that is sent again.
	// page/cluster.js sends messages again within this time only.
	repeatWindow = 2 * time.Minute
	// idleCheck is how often a process without messages checks that the stream is still
	// the one that it follows.
	idleCheck = 15 * time.Second
)

// A busConfig says where NATS is and what the stream keeps.
type busConfig struct {
	url, token   string
	replicas     int
	keepMessages int64
	keepBytes    int64
	keepAge      time.Duration
}

// A receiver gets what the bus reads from the stream. No method waits for a client.
type receiver interface {
	// last returns the number and the time of the newest message that the receiver has. The
	// time is zero if the receiver does not know it.
	last() (seq uint64, at time.Time)
	// follows reports whether the messages of the stream continue those that the receiver has.
	follows(s streamState) bool
	// begin says which stream the next messages are from. It returns the sequence number of
	// the first message that the receiver wants.
	begin(s streamState) (next uint64)
	// deliver delivers a message. The numbers rise, but may have gaps.
	deliver(seq uint64, at time.Time, data []byte)
	// setConnected says whether messages can be published and are delivered.
	setConnected(connected bool)
}

// A streamState describes a stream.
type streamState struct {
	id          string    // changes if the stream is made again, because the numbers begin again
	first, last uint64    // the messages in it; last is first-1 if there are none
	newest      uint64    // the newest message that was not deleted; 0 if there is none
	lastAt      time.Time // of the message with the number of receiver.last; zero if there is none
	messages    int64     // limits
	bytes       int64
	age         time.Duration
}

// A bus is the connection of a process to NATS. One goroutine follows the stream and
// delivers its messages, and every method can be called from any goroutine.
type bus struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	cfg  busConfig
	to   receiver
	wake chan struct{} // has an element after a reconnect, so that the goroutine does not wait longer

	stop    context.CancelFunc
	running sync.WaitGroup // the goroutine of follow

	mu        sync.Mutex
	interrupt context.CancelFunc // ends the current call of followOnce
}

// openBus connects to NATS and begins to deliver messages to r. It returns when r has all
// messages that are in the stream now. Later failures of NATS are not errors: the bus
// reconnects for as long as it takes.
func openBus(ctx context.Context, cfg busConfig, r *room) (*bus, error) {
	b := &bus{cfg: cfg, to: r, wake: make(chan struct{}, 1)}
	var err error
	if b.nc, err = nats.Connect(cfg.url, b.options()...); err != nil {
		if errors.As(err, new(*url.Error)) { // which has the whole URL, with the password
			return nil, errors.New("the URL of NATS is not valid: special characters of a password must be escaped, as %2F for a slash")
		}
		return nil, fmt.Errorf("connecting to NATS at %s: %w; is it running, and is NATS_TOKEN its token?", redact(cfg.url), err)
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(requestTimeout)); err != nil {
		b.nc.Close()
		return nil, err
	}
	if _, err := b.stream(ctx); err != nil { // a mistake in the configuration shows here
		b.nc.Close()
		return nil, fmt.Errorf("opening the stream %s: %w; NATS needs JetStream (nats-server -js)", streamName, err)
	}
	r.bus = b
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	b.running.Go(func() { b.follow(following) })

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := r.waitReady(ctx); err != nil {
		b.close()
		return nil, fmt.Errorf("reading the history from NATS: %w", err)
	}
	return b, nil
}

// options returns the options of the connection to NATS.
func (b *bus) options() []nats.Option {
	options := []nats.Option{
		nats.Name("cluster chat"),
		nats.Timeout(requestTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.IgnoreAuthErrorAbort(), // a token that is wrong for a moment must not end the process
		// Without a connection, publishing fails at once. Otherwise a message would be sent
		// later, although its user was told that it was not.
		nats.ReconnectBufSize(-1),
		// A network that drops all packets is noticed after 15 to 20 seconds.
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(3),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if nc.IsClosed() {
				return // by close
			}
			slog.Warn("NATS is away", "err", err)
			b.to.setConnected(false)
			b.restart()
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			slog.Info("NATS is back", "nats", nc.ConnectedUrlRedacted())
			select {
			case b.wake <- struct{}{}:
			default:
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			slog.Error("NATS", "err", err)
		}),
	}
	if b.cfg.token != "" {
		options = append(options, nats.Token(b.cfg.token))
	}
	return options
}

// redact removes the user, the password and the token from URLs.
func redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, one := range list {
		scheme, rest, found := strings.Cut(one, "://")
		if !found {
			scheme, rest = "nats", one
		}
		list[i] = scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
	}
	return strings.Join(list, ",")
}

// stream returns the stream, and makes it if it does not exist. The limits of a stream that
// exists stay as they are, because all processes share it.
func (b *bus) stream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, streamName)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return s, err
	}
	s, err = b.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:       streamName,
		Subjects:   []string{subject},
		MaxMsgs:    b.cfg.keepMessages,
		MaxBytes:   b.cfg.keepBytes,
		MaxAge:     b.cfg.keepAge,
		Discard:    jetstream.DiscardOld,
		MaxMsgSize: maxStoredMessage,
		Duplicates: min(repeatWindow, b.cfg.keepAge),
		Replicas:   b.cfg.replicas,
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process was faster
		return b.js.Stream(ctx, streamName)
	}
	return s, err
}

// state returns the state of a stream.
func (b *bus) state(ctx context.Context, stream jetstream.Stream) (streamState, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := stream.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return streamState{}, err
	}
	s := stateOf(info)
	// A NATS server without copies may lose its newest messages if its machine fails, and then
	// uses their numbers again. The times of the messages show this.
	seq, at := b.to.last()
	if at.IsZero() || seq < s.first || seq > s.last {
		return s, nil
	}
	msg, err := stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) { // it was deleted
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.lastAt = msg.Time
	return s, nil
}

// stateOf returns the part of the state that does not depend on the receiver.
func stateOf(info *jetstream.StreamInfo) streamState {
	s := streamState{
		id:       strconv.FormatInt(info.Created.UnixNano(), 36),
		first:    info.State.FirstSeq,
		last:     info.State.LastSeq,
		newest:   info.State.LastSeq,
		messages: info.Config.MaxMsgs,
		bytes:    info.Config.MaxBytes,
		age:      info.Config.MaxAge,
	}
	if info.State.Msgs == 0 {
		s.first, s.newest = s.last+1, 0
		return s
	}
	for slices.Contains(info.State.Deleted, s.newest) {
		s.newest--
	}
	return s
}

// follow follows the stream until ctx is done, again and again.
func (b *bus) follow(ctx context.Context) {
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := b.followOnce(ctx)
		b.to.setConnected(false)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errDisconnected) { // which is in the log already
			slog.Warn("the stream was interrupted", "err", err)
		}
		if time.Since(began) > 10*time.Second {
			attempt = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		case <-time.After(backoff(attempt)):
		}
	}
}

// backoff returns how long to wait before the next attempt: 0.1 to 5 seconds, with a random
// part, so that the processes do not all ask at the same time.
func backoff(attempt int) time.Duration {
	longest := min(100*time.Millisecond<<min(attempt, 10), 5*time.Second)
	return longest/2 + rand.N(longest/2)
}

// restart ends the current call of followOnce.
func (b *bus) restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.interrupt != nil {
		b.interrupt()
	}
}

// errDisconnected means that there is no connection to NATS.
var errDisconnected = errors.New("not connected to NATS")

// followOnce delivers the messages of the stream, beginning with the first that the receiver
// does not have. It returns when the connection is lost, the stream is not the same any
// more, or ctx is done. A new call then asks for the stream and its state again: NATS may
// have come back with another stream, and an old consumer would wait for numbers that do
// not come.
func (b *bus) followOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	b.interrupt = cancel
	b.mu.Unlock()

	if !b.nc.IsConnected() {
		return errDisconnected
	}
	stream, err := b.stream(ctx)
	if err != nil {
		return err
	}
	state, err := b.state(ctx, stream)
	if err != nil {
		return err
	}
	next := b.to.begin(state)
	create, cancelCreate := context.WithTimeout(ctx, requestTimeout)
	defer cancelCreate()
	consumer, err := stream.OrderedConsumer(create, jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       next,
		InactiveThreshold: time.Minute, // then NATS forgets the consumer of a process that was killed
		MaxResetAttempts:  1,           // follow tries again
	})
	if err != nil {
		return err
	}
	name := consumer.CachedInfo().Name
	messages, err := consumer.Messages(jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return err
	}
	defer messages.Stop()
	b.to.setConnected(true)
	for {
		if err := b.receive(ctx, stream, name, messages); err != nil {
			return err
		}
	}
}

// receive delivers the next message, which the consumer with this name sends. If none comes
// for idleCheck, it checks the stream.
func (b *bus) receive(ctx context.Context, stream jetstream.Stream, name string, messages jetstream.MessagesContext) error {
	wait, cancel := context.WithTimeout(ctx, idleCheck)
	defer cancel()
	msg, err := messages.Next(jetstream.NextContext(wait))
	if wait.Err() != nil && err != nil {
		if ctx.Err() != nil {
			return errDisconnected
		}
		return b.checkStream(ctx, stream)
	}
	if err != nil {
		return err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	if meta.Consumer != name { // the client of NATS has made another one, and has not checked the stream
		return errors.New("the consumer was made again")
	}
	b.to.deliver(meta.Sequence.Stream, meta.Timestamp, msg.Data())
	return nil
}

// checkStream returns an error if the stream was made again, or has lost its newest messages.
func (b *bus) checkStream(ctx context.Context, stream jetstream.Stream) error {
	state, err := b.state(ctx, stream)
	if err != nil {
		return err
	}
	if !b.to.follows(state) {
		return fmt.Errorf("the stream %s was made again, or has lost its newest messages", streamName)
	}
	return nil
}

// newest returns the number of the newest message in the stream.
func (b *bus) newest(ctx context.Context) (uint64, error) {
	s, err := b.stream(ctx)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.LastSeq, nil
}

// A publishError says to a user why a message was not sent.
type publishError struct {
	text string
	err  error
}

func (e *publishError) Error() string { return e.text }
func (e *publishError) Unwrap() error { return e.err }

// publish stores a message in the stream and returns its number. It waits for NATS for
// publishTimeout. If it returns an error, the caller may call it again with the same id:
// within repeatWindow, NATS stores one message of an id only.
func (b *bus) publish(ctx context.Context, id string, data []byte) (uint64, error) {
	if !b.nc.IsConnected() {
		return 0, &publishError{"not sent: the server has no connection to NATS at the moment", nats.ErrDisconnected}
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	ack, err := b.js.Publish(ctx, subject, data, jetstream.WithMsgID(id), jetstream.WithExpectStream(streamName))
	switch {
	case err == nil:
		return ack.Sequence, nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return 0, &publishError{fmt.Sprintf("NATS has not confirmed the message within %v; it may still arrive", publishTimeout), err}
	default:
		return 0, &publishError{"not sent: NATS does not accept messages at the moment", err}
	}
}

// close ends the goroutine and the connection. Afterwards publish returns an error.
func (b *bus) close() {
	b.stop()
	b.running.Wait()
	b.nc.Close()
}
