import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okio.ByteString;

/** The cases of OkHttp, the HTTP client of many Android apps. */
class OkHttp {
  static final String TEXT = "Grüße, 世界 🌍";
  static final int MEBIBYTE = 1 << 20;
  static final int HEARTBEAT = 3, HOLD = 7; // in seconds

  record Closed(int code, String reason) {}

  /** A connection. The queue has a String, a ByteString, a Closed or a Throwable for each event. */
  static class Session extends WebSocketListener {
    final BlockingQueue<Object> inbox = new LinkedBlockingQueue<>();
    final CountDownLatch ended = new CountDownLatch(1);
    boolean answersClose = true;
    int delay; // seconds that each message takes
    WebSocket socket;
    Response response;

    @Override
    public synchronized void onOpen(WebSocket socket, Response response) {
      this.response = response;
      inbox.add("open");
    }

    @Override
    public void onMessage(WebSocket socket, String text) {
      sleep(delay);
      inbox.add(text);
    }

    @Override
    public void onMessage(WebSocket socket, ByteString bytes) {
      inbox.add(bytes);
    }

    @Override
    public void onClosing(WebSocket socket, int code, String reason) {
      inbox.add(new Closed(code, reason));
      if (answersClose) {
        socket.close(code, reason);
      }
    }

    @Override
    public void onClosed(WebSocket socket, int code, String reason) {
      ended.countDown();
    }

    @Override
    public void onFailure(WebSocket socket, Throwable failure, Response response) {
      inbox.add(failure);
      ended.countDown();
    }

    /** Waits until both close frames are sent, because the end of this process would cut off the writer of OkHttp. */
    void awaitEnd() throws Exception {
      ended.await(10, TimeUnit.SECONDS);
    }

    Object receive() throws Exception {
      Object event = inbox.poll(100, TimeUnit.SECONDS);
      if (event instanceof Exception failure) {
        throw failure;
      }
      return event;
    }

    void expect(Object want) throws Exception {
      Object got = receive();
      if (!want.equals(got)) {
        throw new AssertionError("got " + cut(got) + ", want " + cut(want));
      }
    }

    void echo(String message) throws Exception {
      socket.send(message);
      expect(message);
    }

    void echo(ByteString message) throws Exception {
      socket.send(message);
      expect(message);
    }

    void close(int code, String reason) throws Exception {
      socket.close(code, reason);
      Object got = receive();
      if (!(got instanceof Closed closed) || closed.code != code) {
        throw new AssertionError("got " + got + ", want a close with " + code);
      }
      awaitEnd();
    }

    /** Stays connected for HOLD seconds, unless the connection ends before, and then closes it. */
    void hold() throws Exception {
      long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(HOLD);
      for (long left; (left = end - System.nanoTime()) > 0; ) {
        Object event = inbox.poll(left, TimeUnit.NANOSECONDS);
        if (event instanceof Closed || event instanceof Throwable) {
          return;
        }
      }
      socket.close(1000, "");
      awaitEnd();
    }
  }

  final String base;
  final OkHttpClient client;

  OkHttp(String base) throws Exception {
    this.base = base;
    this.client = client();
  }

  static OkHttpClient client() throws Exception {
    KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
    trusted.load(null);
    try (InputStream file = Files.newInputStream(Path.of(System.getenv("SSL_CERT_FILE")))) {
      trusted.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(file));
    }
    TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    managers.init(trusted);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, managers.getTrustManagers(), null);
    return new OkHttpClient.Builder()
        .sslSocketFactory(context.getSocketFactory(), (X509TrustManager) managers.getTrustManagers()[0])
        .build();
  }

  Session open(OkHttpClient client, String name, Session session, String... protocols) throws Exception {
    Request.Builder request = new Request.Builder().url(base.replaceFirst("^ws", "http") + name);
    if (protocols.length > 0) {
      request.header("Sec-WebSocket-Protocol", String.join(", ", protocols));
    }
    session.socket = client.newWebSocket(request.build(), session);
    session.expect("open");
    return session;
  }

  Session open(String name) throws Exception {
    return open(client, name, new Session());
  }

  Session openWithHeartbeat(String name) throws Exception {
    OkHttpClient pinging = client.newBuilder().pingInterval(HEARTBEAT, TimeUnit.SECONDS).build();
    return open(pinging, name, new Session());
  }

  void run(String name) throws Exception {
    switch (name) {
      case "text" -> {
        Session session = open(name);
        session.echo(TEXT);
        session.echo("");
        session.close(1000, "");
      }
      case "binary" -> {
        Session session = open(name);
        session.echo(bytes(256));
        session.echo(bytes(0));
        session.close(1000, "");
      }
      case "large" -> {
        Session session = open(name);
        session.echo("x".repeat(MEBIBYTE));
        session.echo(bytes(MEBIBYTE));
        session.close(1000, "");
      }
      case "receive-fragments" -> {
        Session session = open(name);
        session.socket.send(TEXT);
        session.expect("1: " + TEXT + "a".repeat(5000) + "b".repeat(5000));
        session.close(1000, "");
      }
      case "server-ping" -> {
        Session session = open(name);
        session.expect("pong");
        session.close(1000, "");
      }
      case "subprotocol" -> {
        Session session = open(client, name, new Session(), "chat.v0", "chat.v1");
        session.expect("chat.v1");
        String got = session.response.header("Sec-WebSocket-Protocol");
        if (!"chat.v1".equals(got)) {
          throw new AssertionError("the client has the subprotocol " + got + ", want chat.v1");
        }
        session.close(1000, "");
      }
      case "client-close" -> open(name).close(4001, "closed by the client: ✓");
      case "server-close" -> {
        Session session = open(name);
        session.expect(new Closed(4002, "closed by the server: ✓"));
        session.awaitEnd();
      }
      case "idle" -> {
        Session session = open(name);
        session.expect("awake");
        session.echo("thanks");
        session.close(1000, "");
      }
      case "silent" -> open(name).hold();
      case "heartbeat", "heartbeat-send-only", "heartbeat-unanswered" -> openWithHeartbeat(name).hold();
      case "blocked" -> {
        Session session = new Session();
        session.delay = HOLD;
        open(client, name, session).hold();
      }
      case "close-unanswered" -> {
        Session session = new Session();
        session.answersClose = false;
        open(client, name, session).expect(new Closed(4002, "closed by the server: ✓"));
        sleep(HOLD);
      }
      default -> throw new IllegalArgumentException(name);
    }
  }

  static ByteString bytes(int length) {
    byte[] bytes = new byte[length];
    for (int i = 0; i < length; i++) {
      bytes[i] = (byte) (i % 251);
    }
    return ByteString.of(bytes);
  }

  static String cut(Object object) {
    String text = String.valueOf(object);
    return text.length() < 100 ? text : text.substring(0, 100) + "…";
  }

  static void sleep(int seconds) {
    try {
      TimeUnit.SECONDS.sleep(seconds);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** Runs the cases on the command line. The first argument is the base URL. Without arguments, prints the version. */
  public static void main(String[] args) throws Exception {
    if (args.length == 0) {
      System.out.println(okhttp3.internal.Version.userAgent() + ", Java " + Runtime.version());
      return;
    }
    OkHttp cases = new OkHttp(args[0]);
    boolean failed = false;
    for (String name : Arrays.copyOfRange(args, 1, args.length)) {
      try {
        cases.run(name);
        System.out.println("ok " + name);
      } catch (Exception | AssertionError e) {
        failed = true;
        System.out.println("failed " + name + ": " + String.valueOf(e).replace('\n', ' '));
      }
    }
    System.out.flush();
    System.exit(failed ? 1 : 0); // the threads of OkHttp would keep the process for a minute
  }
}
