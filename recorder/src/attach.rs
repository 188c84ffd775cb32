//! Keeps an eye on the recorded devices: one that goes away is a fact, one that is made anew is recorded again.
//! In: the names given, looked at once a second. Out: facts, new interfaces, and sockets for the capture threads.
//! A recorder whose only device is gone goes on waiting for it: it never stops silently.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use shark_schema::identity::{Fact, InterfaceFact, Targeting};
use shark_schema::segment::SidecarInterface;

use crate::capture::{CaptureError, Line, RingOptions, index_of};
use crate::log::Log;
use crate::segment::Recording;

pub struct Attacher {
    pub recording: Arc<Recording>,
    pub options: RingOptions,
    /// By name: the index it is recorded under, None while it is gone.
    pub known: BTreeMap<String, Option<u32>>,
    /// One a worker.
    pub workers: Vec<Sender<Line>>,
}

impl Attacher {
    pub fn look(&mut self, log: &Log) {
        let names: Vec<String> = self.known.keys().cloned().collect();
        for name in names {
            let before = self.known[&name];
            let now = index_of(&name);
            if now == before {
                continue;
            }
            if before.is_some() {
                self.note(log, &name, before, Targeting::NotTargeted, "the device is gone");
                self.known.insert(name.clone(), None);
            }
            let Some(index) = now else { continue };
            match self.attach(&name) {
                Ok(()) => {
                    self.note(log, &name, now, Targeting::Targeted, "the device was made anew");
                    self.known.insert(name, Some(index));
                }
                // Tried again at the next look.
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    fn attach(&self, name: &str) -> Result<(), CaptureError> {
        let id = self.recording.interfaces().len() as u32;
        // A new device needs a new group: sockets of one group must be bound alike.
        let fanout = (self.workers.len() > 1).then(|| (std::process::id() as u16).wrapping_add(id as u16));
        let open = |_| Line::open(id, name, &self.options, fanout);
        let mut lines = self.workers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        for line in &mut lines {
            line.start(&self.options.filter)?;
        }
        let Some(device) = lines.first().map(|line| line.device().clone()) else {
            return Ok(());
        };
        self.recording.add(SidecarInterface {
            id,
            name: device.name,
            ifindex: Some(device.ifindex),
            snaplen: self.options.snaplen,
            synthetic_ethernet: device.synthetic_ethernet,
            pod: None,
        });
        for (worker, line) in self.workers.iter().zip(lines) {
            // A worker that has ended takes nothing any more.
            let _ = worker.send(line);
        }
        Ok(())
    }

    fn note(&self, log: &Log, name: &str, ifindex: Option<u32>, state: Targeting, why: &str) {
        tracing::warn!("{name}: {why}");
        log.write(Fact::Interface(InterfaceFact {
            name: name.to_owned(),
            ifindex,
            state,
            why: why.to_owned(),
        }));
    }
}
