//! HTTP/1.1 messages, read byte by byte and kept as they came.

use std::io::{self, BufRead, Read};

use serde_json::Value;

/// A request or an answer, complete.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The request or status line, without its end.
    pub(crate) start_line: String,
    /// Names in lower case and values, in the order of the wire.
    pub(crate) fields: Vec<(String, String)>,
    /// The content, without chunk framing.
    pub(crate) body: Vec<u8>,
    /// Start lines of the 1xx answers before this one.
    pub(crate) interim: Vec<String>,
    /// Whether the content was framed by chunks.
    pub(crate) is_chunked: bool,
}

/// A message that ended before it was complete.
#[derive(Debug)]
pub(crate) struct Cut {
    /// What had arrived of it: head lines and content; empty if there was not a byte.
    pub(crate) received: Vec<u8>,
    /// How it ended; an orderly end is `UnexpectedEof`.
    pub(crate) error: io::Error,
}

impl Message {
    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let status = self.start_line.split(' ').nth(1).unwrap_or_default();
        status.parse().expect("an answer has a status")
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.start_line.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a field, in the order of the wire.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.fields.iter().filter(|(field, _)| field == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that must stand there exactly once.
    pub(crate) fn field(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            ref lines => panic!("{name} stands there {} times: {self:?}", lines.len()),
        }
    }

    /// The verdict of a reply.
    pub(crate) fn outcome(&self) -> &str {
        self.field("gateway-outcome")
    }

    /// The content as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The stable code of an error of the gateway's own; also checks the form of its document.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.field("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status());
        assert_eq!(problem["outcome"], self.outcome());
        assert_eq!(problem["request_id"], self.field("x-request-id"));
        problem["code"].as_str().expect("a code").to_owned()
    }
}

/// Reads one request.
pub(crate) fn read_request(reader: &mut impl BufRead) -> Result<Message, Cut> {
    read(reader, |_| Body::Announced)
}

/// Reads one final answer to a request of this method, and the 1xx answers before it.
pub(crate) fn read_answer(reader: &mut impl BufRead, method: &str) -> Result<Message, Cut> {
    let mut interim = Vec::new();
    loop {
        let mut message = read(reader, |line| {
            let status = line.split(' ').nth(1).unwrap_or_default();
            if method == "HEAD" || status.starts_with('1') || status == "204" || status == "304" {
                Body::None
            } else {
                Body::UntilTheEnd
            }
        })?;
        if message.status() < 200 && message.status() != 101 {
            interim.push(message.start_line);
            continue;
        }
        message.interim = interim;
        return Ok(message);
    }
}

/// What a message has for content where its head announces nothing.
enum Body {
    /// None, whatever the head announces.
    None,
    /// None unless the head announces it.
    Announced,
    /// What comes until the connection ends, unless the head announces otherwise.
    UntilTheEnd,
}

fn read(reader: &mut impl BufRead, body: impl FnOnce(&str) -> Body) -> Result<Message, Cut> {
    let mut received = Vec::new();
    match read_into(reader, body, &mut received) {
        Ok(message) => Ok(message),
        Err(error) => Err(Cut { received, error }),
    }
}

fn read_into(
    reader: &mut impl BufRead,
    body: impl FnOnce(&str) -> Body,
    received: &mut Vec<u8>,
) -> io::Result<Message> {
    let start_line = read_line(reader, received)?;
    let mut fields = Vec::new();
    loop {
        let line = read_line(reader, received)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').expect("a field line has a colon");
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let announced = |name: &str| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.clone())
    };
    let is_chunked = announced("transfer-encoding").is_some();
    let length = announced("content-length").map(|length| match length.parse() {
        Ok(length) => length,
        Err(error) => panic!("{error} in content-length: {length}"),
    });
    let mut message = Message {
        fields: Vec::new(),
        body: Vec::new(),
        interim: Vec::new(),
        is_chunked,
        start_line,
    };
    match (body(&message.start_line), length) {
        (Body::None, _) => {}
        _ if is_chunked => read_chunks(reader, &mut message.body, received)?,
        (_, Some(length)) => read_exactly(reader, length, &mut message.body, received)?,
        (Body::Announced, None) => {}
        (Body::UntilTheEnd, None) => {
            reader.read_to_end(&mut message.body)?;
        }
    }
    message.fields = fields;
    Ok(message)
}

fn read_chunks(
    reader: &mut impl BufRead,
    body: &mut Vec<u8>,
    received: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        let line = read_line(reader, received)?;
        let size = line.split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).expect("a chunk's size");
        if size == 0 {
            while !read_line(reader, received)?.is_empty() {}
            return Ok(());
        }
        read_exactly(reader, size, body, received)?;
        read_line(reader, received)?;
    }
}

fn read_exactly(
    reader: &mut impl BufRead,
    length: u64,
    body: &mut Vec<u8>,
    received: &mut Vec<u8>,
) -> io::Result<()> {
    let before = body.len();
    let read = reader.take(length).read_to_end(body);
    let arrived = body.get(before..).unwrap_or_default();
    let is_whole = arrived.len() as u64 == length;
    if is_whole {
        return Ok(());
    }
    received.extend_from_slice(arrived);
    read?;
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn read_line(reader: &mut impl BufRead, received: &mut Vec<u8>) -> io::Result<String> {
    let start = received.len();
    reader.read_until(b'\n', received)?;
    let line = received.get(start..).unwrap_or_default();
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
