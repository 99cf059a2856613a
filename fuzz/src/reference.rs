//! HTTP/1.1 as the standard has it and not a byte laxer: what a stream of bytes is.
//!
//! Written for comparison only: simple, slow, and sharing nothing with the gateway or with hyper.
//! Where the standard leaves a choice it takes what the gateway may take at most, so that the
//! gateway never finds more messages than this does.
//!
//! # Source
//! RFC 9112, 2.2, 3, 5, 6, 7.1 and 9.6.

/// The longest body that a length may announce, so that no sum overflows.
const LONGEST_BODY: u64 = i64::MAX as u64;

/// One message, its head taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The request line or status line, without its end.
    pub(super) start: String,
    /// Name in lower case and trimmed value of every line.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    /// The body, taken out of its chunks.
    pub(super) body: Vec<u8>,
    /// How the body's end was found.
    pub(super) framing: Framing,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// By `Content-Length`.
    Counted(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection; answers only.
    UntilClose,
}

/// How a stream of messages ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After a whole message.
    Clean,
    /// In the middle of one.
    Incomplete,
    /// After a message that says it is the last; what follows is nothing.
    Closed,
    /// With something that is no message.
    Violation,
}

/// Why no message could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Incomplete,
    Violation,
}

impl Message {
    /// All values of a field.
    pub(super) fn values<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m [u8]> {
        let lines = self.fields.iter().filter(move |(other, _)| other == name);
        lines.map(|(_, value)| value.as_slice())
    }

    /// The value of a field that must be there exactly once.
    pub(super) fn only(&self, name: &str) -> &[u8] {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (Some(value), None) => value,
            _ => panic!("not exactly one {name}: {self:?}"),
        }
    }

    /// The words of the request line: method, target, version.
    pub(super) fn request_line(&self) -> (&str, &str, &str) {
        let mut words = self.start.splitn(3, ' ');
        let mut word = || words.next().expect("it was parsed");
        (word(), word(), word())
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> u16 {
        self.start
            .get("HTTP/1.1 ".len()..)
            .and_then(|rest| rest.get(..3))
            .and_then(|digits| digits.parse().ok())
            .expect("it was parsed")
    }

    fn has_option(&self, option: &str) -> bool {
        self.values("connection")
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    }
}

/// The whole requests that a client has sent, and how its stream ends.
pub(super) fn requests(bytes: &[u8]) -> (Vec<Message>, End) {
    let (requests, end, _) = read(bytes);
    (requests, end)
}

/// What a client has sent behind its last whole request.
pub(super) fn behind_requests(bytes: &[u8]) -> &[u8] {
    let (_, _, rest) = read(bytes);
    rest
}

fn read(mut bytes: &[u8]) -> (Vec<Message>, End, &[u8]) {
    let mut requests = Vec::new();
    loop {
        // One empty line before a request is no fault.
        let begun = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        if begun.is_empty() {
            return (requests, End::Clean, begun);
        }
        match request(begun) {
            Ok((request, rest)) => {
                let is_old = request.start.ends_with("1.0");
                let is_last =
                    request.has_option("close") || is_old && !request.has_option("keep-alive");
                requests.push(request);
                if is_last {
                    return (requests, End::Closed, rest);
                }
                bytes = rest;
            }
            Err(Fault::Incomplete) => return (requests, End::Incomplete, begun),
            Err(Fault::Violation) => return (requests, End::Violation, begun),
        }
    }
}

fn request(bytes: &[u8]) -> Result<(Message, &[u8]), Fault> {
    let (start, rest) = line(bytes)?;
    check_request_line(start)?;
    let (fields, rest) = fields(rest)?;
    let mut request = message(start, fields);
    request.framing = match length(&request)? {
        Framing::UntilClose => Framing::Empty,
        Framing::Chunked if request.start.ends_with("1.0") => return Err(Fault::Violation),
        framing => framing,
    };
    let (body, rest) = body(request.framing, rest)?;
    request.body = body;
    Ok((request, rest))
}

/// One answer to a request of this method, and what follows it; `None` if it is not whole.
/// Panics if it is no answer.
pub(super) fn answer<'b>(
    bytes: &'b [u8],
    method: &str,
    is_ended: bool,
) -> Option<(Message, &'b [u8])> {
    match try_answer(bytes, method, is_ended) {
        Ok(answer) => Some(answer),
        Err(Fault::Incomplete) => None,
        Err(Fault::Violation) => panic!("no answer: {}", bytes.escape_ascii()),
    }
}

/// As [`answer`], where nobody promised that it is one.
pub(super) fn find_answer<'b>(
    bytes: &'b [u8],
    method: &str,
    is_ended: bool,
) -> Option<(Message, &'b [u8])> {
    try_answer(bytes, method, is_ended).ok()
}

/// Whether an upstream that says this keeps its connection open behind it.
pub(super) fn is_kept_alive(mut bytes: &[u8]) -> bool {
    loop {
        match try_answer(bytes, "GET", true) {
            Ok((interim, rest)) if interim.status() < 200 => bytes = rest,
            Ok((answer, _)) => {
                return answer.framing != Framing::UntilClose && !answer.has_option("close");
            }
            Err(_) => return false,
        }
    }
}

fn try_answer<'b>(
    bytes: &'b [u8],
    method: &str,
    is_ended: bool,
) -> Result<(Message, &'b [u8]), Fault> {
    let (start, rest) = line(bytes)?;
    // hyper's server answers an HTTP/1.0 request in that version.
    let digits = [&b"HTTP/1.1 "[..], b"HTTP/1.0 "]
        .into_iter()
        .find_map(|version| start.strip_prefix(version));
    let digits = digits.ok_or(Fault::Violation)?;
    // Without a reason many leave out the space, too.
    let is_status = matches!(
        digits,
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] | [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', ..]
    );
    if !is_status || !digits.iter().all(|byte| is_text(*byte)) {
        return Err(Fault::Violation);
    }
    let (fields, rest) = fields(rest)?;
    let mut answer = message(start, fields);
    let status = answer.status();
    let announced = length(&answer)?;
    answer.framing = match announced {
        _ if method == "HEAD" || status < 200 || matches!(status, 204 | 304) => Framing::Empty,
        Framing::UntilClose if !is_ended => return Err(Fault::Incomplete),
        framing => framing,
    };
    let (body, rest) = body(answer.framing, rest)?;
    answer.body = body;
    Ok((answer, rest))
}

fn message(start: &[u8], fields: Vec<(String, Vec<u8>)>) -> Message {
    Message {
        start: String::from_utf8_lossy(start).into_owned(),
        fields,
        body: Vec::new(),
        framing: Framing::Empty,
    }
}

/// A line that ends in CRLF, without it; no other CR or LF is in it.
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let (line, rest) = bytes.split_at(end.ok_or(Fault::Incomplete)?);
    match rest {
        [b'\r', b'\n', rest @ ..] => Ok((line, rest)),
        [b'\r'] => Err(Fault::Incomplete),
        _ => Err(Fault::Violation),
    }
}

fn check_request_line(line: &[u8]) -> Result<(), Fault> {
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Fault::Violation);
    };
    let in_target = |byte: &u8| *byte > b' ' && !matches!(*byte, b'#' | 0x7f);
    let is_right = is_token(method)
        && !target.is_empty()
        && target.iter().all(in_target)
        && std::str::from_utf8(target).is_ok()
        && matches!(version, b"HTTP/1.1" | b"HTTP/1.0");
    is_right.then_some(()).ok_or(Fault::Violation)
}

type Fields = Vec<(String, Vec<u8>)>;

fn fields(mut bytes: &[u8]) -> Result<(Fields, &[u8]), Fault> {
    let mut fields = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        bytes = rest;
        if line.is_empty() {
            return Ok((fields, bytes));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or(Fault::Violation)?);
        let value = &value[1..];
        if !is_token(name) || !value.iter().all(|byte| is_text(*byte)) {
            return Err(Fault::Violation);
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, trimmed(value).to_vec()));
    }
}

/// Which framing the fields announce; without any, until the connection closes.
fn length(message: &Message) -> Result<Framing, Fault> {
    let codings: Vec<_> = message.values("transfer-encoding").collect();
    let mut lengths: Vec<_> = message
        .values("content-length")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(trimmed)
        .collect();
    lengths.dedup();
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(Framing::UntilClose),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], [length]) => Ok(Framing::Counted(number(length, 10)?)),
        _ => Err(Fault::Violation),
    }
}

fn body(framing: Framing, bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), Fault> {
    match framing {
        Framing::Empty => Ok((Vec::new(), bytes)),
        Framing::UntilClose => Ok((bytes.to_vec(), &[])),
        Framing::Counted(length) => {
            let length = usize::try_from(length).map_err(|_| Fault::Incomplete)?;
            let (body, rest) = bytes.split_at_checked(length).ok_or(Fault::Incomplete)?;
            Ok((body.to_vec(), rest))
        }
        Framing::Chunked => chunks(bytes),
    }
}

fn chunks(mut bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), Fault> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        if !line.iter().all(|byte| is_text(*byte)) {
            return Err(Fault::Violation);
        }
        let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
        let (size, extension) = line.split_at(end.unwrap_or(line.len()));
        if !matches!(trimmed(extension), [] | [b';', ..]) {
            return Err(Fault::Violation);
        }
        let size = usize::try_from(number(size, 16)?).map_err(|_| Fault::Violation)?;
        if size == 0 {
            let (_trailers, rest) = fields(rest)?;
            return Ok((body, rest));
        }
        let (data, rest) = rest.split_at_checked(size).ok_or(Fault::Incomplete)?;
        body.extend_from_slice(data);
        bytes = match rest {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Err(Fault::Incomplete),
            _ => return Err(Fault::Violation),
        };
    }
}

fn number(digits: &[u8], radix: u32) -> Result<u64, Fault> {
    let is_digits = digits.iter().all(|byte| char::from(*byte).is_digit(radix));
    let text = std::str::from_utf8(digits).map_err(|_| Fault::Violation)?;
    match u64::from_str_radix(text, radix) {
        Ok(number) if is_digits && number <= LONGEST_BODY => Ok(number),
        _ => Err(Fault::Violation),
    }
}

fn is_token(text: &[u8]) -> bool {
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(in_token)
}

/// Whether it may stand in a field's value.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte));
    let end = value.iter().rposition(|byte| !is_space(byte));
    match (start, end) {
        (Some(start), Some(end)) => &value[start..=end],
        _ => &[],
    }
}
