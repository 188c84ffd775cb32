//! Whether a file brings a library of TLS of its own. In: executables and libraries, which may be large. Out: what is in them. A thread
//! of its own reads them, so that what can be watched at once need not wait; its queue is bounded.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// What a file contains that brings its own: names of source files and functions survive stripping. In two parts, so that this program
/// does not contain them itself.
const STATIC: [([&str; 2], Within); 4] = [
    (["ssl/ssl_", "lib.cc"], Within::Functions("BoringSSL")),
    (["ssl/ssl_", "lib.c\0"], Within::Functions("OpenSSL")),
    (["crypto/tls.(*Conn)", ".Write"], Within::Other("Go's crypto/tls")),
    (["/rustls", "-0."], Within::Other("rustls")),
];

/// A library within a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// One that may have the functions of OpenSSL.
    Functions(&'static str),
    /// One that has other functions.
    Other(&'static str),
}

/// Of a file as many bytes are searched.
const MOST_BYTES: u64 = 256 << 20;
/// No library of TLS is that small.
const LEAST_BYTES: u64 = 64 << 10;
/// Files that wait are open.
const MOST_WAITING: usize = 128;

/// A file, and what the asker wants to know of it again.
pub struct Question<T> {
    pub file: File,
    pub about: T,
}

pub struct Examiner<T> {
    questions: SyncSender<Question<T>>,
    answers: Receiver<(Question<T>, Option<Within>)>,
}

impl<T: Send + 'static> Examiner<T> {
    /// Ends when it is dropped.
    pub fn start() -> io::Result<Examiner<T>> {
        let (questions, asked) = sync_channel::<Question<T>>(MOST_WAITING);
        let (told, answers) = sync_channel(MOST_WAITING);
        thread::Builder::new().name("tls-examiner".into()).spawn(move || {
            for question in asked {
                let within = search(&question.file).ok().flatten();
                if told.send((question, within)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Examiner { questions, answers })
    }

    /// False where too many wait: it is to be asked again later.
    #[must_use]
    pub fn ask(&self, question: Question<T>) -> bool {
        self.questions.try_send(question).is_ok()
    }

    /// One of what was found out until now.
    pub fn answer(&self) -> Option<(Question<T>, Option<Within>)> {
        self.answers.try_recv().ok()
    }
}

/// Which of [`STATIC`] a file contains.
fn search(file: &File) -> io::Result<Option<Within>> {
    if file.metadata()?.len() < LEAST_BYTES {
        return Ok(None);
    }
    let texts = STATIC.map(|(parts, within)| (parts.concat(), within));
    let finders: Vec<_> =
        texts.iter().map(|(text, within)| (memchr::memmem::Finder::new(text), *within)).collect();
    let longest = texts.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
    let mut file = file.take(MOST_BYTES);
    let mut window = vec![0; 1 << 20];
    let mut kept = 0;
    loop {
        let got = file.read(&mut window[kept..])?;
        if got == 0 {
            return Ok(None);
        }
        let filled = kept + got;
        let found = finders.iter().find(|(finder, _)| finder.find(&window[..filled]).is_some());
        if let Some((_, within)) = found {
            return Ok(Some(*within));
        }
        // What begins at the end of one window goes on in the next.
        kept = filled.min(longest);
        window.copy_within(filled - kept..filled, 0);
    }
}
