//! A client's connection: what was read while guessing its protocol, and a bound on how
//! long it may leave written bytes untaken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// What an HTTP/2 client that does not negotiate begins with (RFC 9113, section 3.4).
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A connection of which `start` was read already.
pub(crate) struct ClientIo {
    stream: TcpStream,
    start: [u8; H2_PREFACE.len()],
    start_len: usize,
    start_taken: usize,
    write_timeout: Duration,
    write_deadline: Pin<Box<Sleep>>,
    /// Whether a write waits for the client.
    waiting: bool,
}

impl ClientIo {
    /// Reads as much as tells the protocols apart. A client that sends nothing is bounded
    /// by the caller.
    pub(crate) async fn open(
        mut stream: TcpStream,
        write_timeout: Duration,
    ) -> io::Result<(Protocol, Self)> {
        let mut start = [0; H2_PREFACE.len()];
        let mut start_len = 0;
        let protocol = loop {
            let (read, free) = start.split_at_mut(start_len);
            if !H2_PREFACE.starts_with(read) {
                break Protocol::Http1;
            }
            if free.is_empty() {
                break Protocol::Http2;
            }
            match stream.read(free).await? {
                0 => break Protocol::Http1,
                read => start_len += read,
            }
        };
        let io = Self {
            stream,
            start,
            start_len,
            start_taken: 0,
            write_timeout,
            write_deadline: Box::pin(tokio::time::sleep(write_timeout)),
            waiting: false,
        };
        Ok((protocol, io))
    }

    /// Passes a write's progress on, or fails it once the client took nothing for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.waiting = false;
            return progress;
        }
        if !self.waiting {
            self.waiting = true;
            let deadline = Instant::now() + self.write_timeout;
            self.write_deadline.as_mut().reset(deadline);
        }
        match self.write_deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = this
            .start
            .get(this.start_taken..this.start_len)
            .unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let (taken, _) = rest.split_at(rest.len().min(buffer.remaining()));
        buffer.put_slice(taken);
        this.start_taken += taken.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.watch(context, progress)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.watch(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    async fn guess(sent: &[u8]) -> (Protocol, Vec<u8>) {
        let (mut client, server) = pair().await;
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let (protocol, mut io) = ClientIo::open(server, Duration::from_secs(1))
            .await
            .unwrap();
        let mut read = Vec::new();
        io.read_to_end(&mut read).await.unwrap();
        (protocol, read)
    }

    #[tokio::test]
    async fn the_first_bytes_tell_and_are_not_lost() {
        for sent in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"",
            b"P",
            b"POST",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        ] {
            assert_eq!(guess(sent).await, (Protocol::Http1, sent.to_vec()));
        }
        let sent = [&H2_PREFACE[..], b"frames"].concat();
        assert_eq!(guess(&sent).await, (Protocol::Http2, sent));
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (mut client, server) = pair().await;
        client.write_all(b"GET").await.unwrap();
        let (_, mut io) = ClientIo::open(server, Duration::from_millis(50))
            .await
            .unwrap();
        let block = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = io.write_all(&block).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
