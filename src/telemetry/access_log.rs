//! The access log: one JSON line a request, made by hand, written by a thread of its own.
//!
//! Each core appends finished lines to a bounded buffer of its own; the writer thread takes whole
//! buffers. A full buffer drops the line and counts it, so a slow disk never slows a payment.
//! `docs/decisions/0003-access-log-by-hand.md` says why this is not done with tracing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::config::LogOutput;

mod line;

pub use line::Line;
use line::Stamp;

/// What one core may have waiting for the writer, in bytes; some 2,500 lines.
const BUFFER_BYTES: usize = 1024 * 1024;

/// The writer's rest between two rounds while lines keep coming: it bounds how often a core has
/// to wake it, and how late a line can be.
const ROUND: Duration = Duration::from_millis(5);

/// How long the last lines may take at the end; an output that takes nothing must not hold up the
/// end of the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the loss of lines is reported, at most.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The access log of the process; the handle that `app` keeps and closes last.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    writer: Option<WriterThread>,
}

/// The thread that owns the output, and the news of its end.
#[derive(Debug)]
struct WriterThread {
    thread: JoinHandle<()>,
    ended: Receiver<std::convert::Infallible>,
}

/// One core's end of the access log.
#[derive(Clone, Debug)]
pub struct LineBuffer {
    /// `None` when the log is off: no line is even built.
    shared: Option<Arc<Shared>>,
    core: usize,
}

#[derive(Debug)]
struct Shared {
    cores: Vec<Mutex<Buffer>>,
    writer: Mutex<Option<Thread>>,
    /// Set by the writer before it sleeps without limit; whoever clears it must wake it.
    is_parked: AtomicBool,
    is_closing: AtomicBool,
    dropped: IntCounter,
}

/// Finished lines of one core, and the clock that stamps them.
#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    stamp: Stamp,
}

impl Shared {
    fn core(&self, core: usize) -> Option<MutexGuard<'_, Buffer>> {
        Some(
            self.cores
                .get(core)?
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn wake(&self) {
        if self.is_parked.swap(false, Ordering::AcqRel) {
            let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(writer) = writer.as_ref() {
                writer.unpark();
            }
        }
    }
}

impl AccessLog {
    /// Opens the output and starts the writer thread; `off` starts nothing. Lines that are lost
    /// are counted in `dropped`.
    ///
    /// # Errors
    /// When the file of `access_log.output` cannot be opened for appending, or no thread started.
    pub fn start(output: &LogOutput, cores: usize, dropped: IntCounter) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            cores: (0..cores).map(|_| Mutex::default()).collect(),
            writer: Mutex::default(),
            is_parked: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            dropped,
        });
        let Some(sink) = Sink::open(output)? else {
            return Ok(Self {
                shared,
                writer: None,
            });
        };
        let writer = Writer {
            shared: Arc::clone(&shared),
            sink,
            is_torn: false,
            reported: None,
        };
        let (ending, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                let _ending = ending;
                writer.run();
            })?;
        *shared.writer.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(thread.thread().clone());
        Ok(Self {
            shared,
            writer: Some(WriterThread { thread, ended }),
        })
    }

    /// The end that one core writes to.
    pub fn buffer(&self, core: usize) -> LineBuffer {
        LineBuffer {
            shared: self.writer.as_ref().map(|_| Arc::clone(&self.shared)),
            core,
        }
    }

    /// Lines that were lost since the start, because a buffer was full or the output failed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.get()
    }

    /// Writes what is still buffered and ends the writer thread.
    pub fn close(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.shared.is_closing.store(true, Ordering::Release);
            writer.thread.thread().unpark();
            // Nothing is ever sent: the channel ends with the writer, however that ends.
            if writer.ended.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
                tracing::error!("the access log's output takes nothing; its last lines are lost");
            }
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.finish();
    }
}

impl LineBuffer {
    /// A buffer that goes nowhere, for measurements.
    pub fn off() -> Self {
        Self {
            shared: None,
            core: 0,
        }
    }

    /// A buffer whose lines no thread writes: they stay until [`Self::take`] asks for them, and
    /// beyond 1 MiB they are lost. For tests that read each line at once.
    pub fn kept() -> Self {
        let dropped = IntCounter::new("lost_lines_total", "Lines lost.").expect("a valid name");
        Self {
            shared: Some(Arc::new(Shared {
                cores: vec![Mutex::default()],
                writer: Mutex::default(),
                is_parked: AtomicBool::new(false),
                is_closing: AtomicBool::new(false),
                dropped,
            })),
            core: 0,
        }
    }

    /// Takes the lines that are waiting; none are where a thread has written them already.
    pub fn take(&self) -> Vec<u8> {
        let buffer = self.shared.as_ref().and_then(|all| all.core(self.core));
        buffer.map_or_else(Vec::new, |mut buffer| std::mem::take(&mut buffer.lines))
    }

    /// Appends the line that `build` fills; when the log is off, `build` is not even called.
    pub fn append(&self, build: impl FnOnce(&mut Line<'_>)) {
        let Some(shared) = &self.shared else { return };
        let Some(mut buffer) = shared.core(self.core) else {
            return;
        };
        let start = buffer.lines.len();
        let Buffer { lines, stamp } = &mut *buffer;
        build(&mut Line::begin(lines, stamp));
        lines.extend_from_slice(b"}\n");
        if lines.len() > BUFFER_BYTES {
            lines.truncate(start);
            shared.dropped.inc();
        }
        drop(buffer);
        shared.wake();
    }
}

/// Where the lines go.
#[derive(Debug)]
enum Sink {
    Stdout,
    Stderr,
    File(File),
}

impl Sink {
    fn open(output: &LogOutput) -> io::Result<Option<Self>> {
        Ok(match output {
            LogOutput::Off => None,
            LogOutput::Stdout => Some(Self::Stdout),
            LogOutput::Stderr => Some(Self::Stderr),
            LogOutput::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                Some(Self::File(file))
            }
        })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(lines),
            Self::File(file) => file.write_all(lines),
        }
    }
}

/// The thread that owns the output.
struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    /// Whether the last write may have left half a line behind.
    is_torn: bool,
    /// When a loss was last reported, and how many lines were lost by then.
    reported: Option<(Instant, u64)>,
}

impl Writer {
    fn run(mut self) {
        let mut round = Vec::new();
        loop {
            // Read before the buffers are emptied, so that nothing appended before it is lost.
            let is_closing = self.shared.is_closing.load(Ordering::Acquire);
            let has_written = self.write_all(&mut round);
            self.report();
            if is_closing {
                return;
            }
            if has_written {
                thread::park_timeout(ROUND);
                continue;
            }
            self.shared.is_parked.store(true, Ordering::Release);
            // A line may have come between the look and the flag; its core saw no flag to clear.
            if self.has_lines() || self.shared.is_closing.load(Ordering::Acquire) {
                self.shared.is_parked.store(false, Ordering::Release);
                continue;
            }
            thread::park();
        }
    }

    fn has_lines(&self) -> bool {
        (0..self.shared.cores.len()).any(|core| {
            self.shared
                .core(core)
                .is_some_and(|buffer| !buffer.lines.is_empty())
        })
    }

    fn write_all(&mut self, round: &mut Vec<u8>) -> bool {
        let mut has_written = false;
        for core in 0..self.shared.cores.len() {
            if let Some(mut buffer) = self.shared.core(core) {
                std::mem::swap(&mut buffer.lines, round);
            }
            if round.is_empty() {
                continue;
            }
            has_written = true;
            if self.is_torn {
                round.insert(0, b'\n');
            }
            self.is_torn = self.sink.write(round).is_err();
            if self.is_torn {
                let lines = round.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.shared.dropped.inc_by(lines);
            }
            round.clear();
        }
        has_written
    }

    /// Says, not too often, that lines were lost.
    fn report(&mut self) {
        let dropped = self.shared.dropped.get();
        let is_news = match self.reported {
            None => dropped > 0,
            Some((last, reported)) => dropped > reported && last.elapsed() >= REPORT_EVERY,
        };
        if is_news {
            self.reported = Some((Instant::now(), dropped));
            tracing::warn!(access_log.dropped = dropped, "access-log lines were lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped() -> IntCounter {
        IntCounter::new("dropped_lines_total", "Lines lost.").expect("a valid name")
    }

    #[test]
    fn writes_every_line_of_every_core_before_it_closes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("access.log");
        let log =
            AccessLog::start(&LogOutput::File(path.clone()), 2, dropped()).expect("the file opens");
        for number in 0..5_000_u64 {
            let buffer = log.buffer(usize::from(number % 2 == 0));
            buffer.append(|line| line.number("number", number));
        }
        log.close();
        let text = std::fs::read_to_string(path).expect("the log is there");
        let mut numbers: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line"))
            .map(|line| line["number"].as_u64().expect("the field"))
            .collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..5_000));
    }

    #[test]
    fn drops_whole_lines_and_counts_them_when_the_buffer_is_full() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = LogOutput::File(folder.path().join("access.log"));
        let log = AccessLog::start(&output, 1, dropped()).expect("the file opens");
        let long = "x".repeat(BUFFER_BYTES);
        log.buffer(0).append(|line| line.text("long", &long));
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn keeps_its_lines_for_whoever_takes_them() {
        let buffer = LineBuffer::kept();
        buffer.append(|line| line.number("number", 1));
        buffer.append(|line| line.number("number", 2));
        let text = String::from_utf8(buffer.take()).expect("lines are text");
        assert_eq!(text.lines().count(), 2);
        assert!(text.ends_with("\"number\":2}\n"), "{text}");
        assert!(buffer.take().is_empty(), "they are taken once");
    }

    #[test]
    fn builds_no_line_when_the_log_is_off() {
        let log = AccessLog::start(&LogOutput::Off, 1, dropped()).expect("nothing to open");
        log.buffer(0).append(|_| panic!("a line was built"));
    }
}
