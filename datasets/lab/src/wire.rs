use crate::queue::lock;
use crate::shared::Shared;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio::net::TcpStream;

/// Length (4 bytes, little endian, of what follows), operation, sender.
const HEADER: usize = 6;
/// A longer frame is a broken one.
const MAX_FRAME: usize = 1 << 20;

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Record keys, 8 bytes each; answered by the records one after the other.
    Fetch,
    /// A compressed sync message; answered by the receiver's count of all output.
    Sync,
    /// Noise of a message storm; answered by nothing but a digest's first 8 bytes.
    Noise,
}

impl Op {
    fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            0 => Ok(Self::Fetch),
            1 => Ok(Self::Sync),
            2 => Ok(Self::Noise),
            _ => Err(Error::new(ErrorKind::InvalidData, format!("operation {byte} does not exist"))),
        }
    }
}

/// A frame as received.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) op: Op,
    pub(crate) from: usize,
    pub(crate) body: Vec<u8>,
}

/// Sends a frame and returns its size.
pub(crate) async fn send(stream: &TcpStream, op: Op, from: usize, body: &[u8]) -> Result<usize> {
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&((body.len() + HEADER - 4) as u32).to_le_bytes());
    frame.push(op as u8);
    frame.push(from as u8);
    frame.extend_from_slice(body);
    let mut sent = 0;
    while sent < frame.len() {
        match stream.try_write(&frame[sent..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(frame.len())
}

/// Receives a frame; the end of the stream is an error.
pub(crate) async fn receive(stream: &TcpStream) -> Result<Frame> {
    let mut head = [0; 4];
    read_exact(stream, &mut head).await?;
    let length = u32::from_le_bytes(head) as usize;
    if !(HEADER - 4..=MAX_FRAME).contains(&length) {
        return Err(Error::new(ErrorKind::InvalidData, format!("frame of {length} bytes")));
    }
    let mut body = vec![0; length];
    read_exact(stream, &mut body).await?;
    let (op, from) = (Op::from_byte(body[0])?, body[1] as usize);
    body.drain(..HEADER - 4);
    Ok(Frame { op, from, body })
}

async fn read_exact(stream: &TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut got = 0;
    while got < buffer.len() {
        match stream.try_read(&mut buffer[got..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => stream.readable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// One caller's connections to its peers, opened when first needed.
#[derive(Debug)]
pub(crate) struct Links {
    shared: Arc<Shared>,
    me: usize,
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    stream: Option<TcpStream>,
    /// A request was sent and its answer not read: the caller gave up waiting, so the next answer would be the wrong one.
    owed: bool,
}

impl Links {
    pub(crate) fn new(shared: Arc<Shared>, me: usize) -> Self {
        let slots = (0..shared.boards.len()).map(|_| Slot::default()).collect();
        Self { shared, me, slots }
    }

    /// Sends a request to agent `to`; the answer is taken by [`Links::answer`].
    pub(crate) async fn request(&mut self, to: usize, op: Op, body: &[u8]) -> Result<()> {
        let slot = &mut self.slots[to];
        if slot.owed {
            slot.stream = None;
        }
        let stream = if let Some(stream) = slot.stream.take() {
            stream
        } else {
            let address = *lock(&self.shared.boards[to].address);
            let stream = TcpStream::connect(address.ok_or(ErrorKind::ConnectionRefused)?).await?;
            stream.set_nodelay(true)?;
            stream
        };
        let bytes = send(&stream, op, self.me, body).await?;
        self.shared.edges.count(self.me, to, bytes);
        slot.stream = Some(stream);
        slot.owed = true;
        Ok(())
    }

    /// Reads the answer of agent `to`.
    pub(crate) async fn answer(&mut self, to: usize) -> Result<Vec<u8>> {
        let slot = &mut self.slots[to];
        let stream = slot.stream.as_ref().ok_or(ErrorKind::NotConnected)?;
        match receive(stream).await {
            Ok(frame) => {
                slot.owed = false;
                Ok(frame.body)
            }
            Err(e) => {
                slot.stream = None;
                slot.owed = false;
                Err(e)
            }
        }
    }
}
