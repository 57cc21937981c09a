//! Decides which thread of codex a request is about, and what waits while that thread is being opened.

use std::collections::{HashMap, HashSet};

use super::{requests::Request, spool::Link};

/// What must happen before a request can go on.
#[derive(Debug, PartialEq)]
pub enum Way {
    /// The thread is open: codex's id.
    Open(String),
    /// Codex has it on disk and must open it.
    Resume(String),
    /// Codex has none yet.
    Start,
    /// It is being opened for another request.
    Wait,
}

/// The threads of one process of codex.
#[derive(Debug, Default)]
pub struct Threads {
    /// Control's ids by codex's.
    of_control: HashMap<String, String>,
    /// Codex's ids of those that this process of codex has open.
    open: HashSet<String>,
    /// Requests by control's id of the thread that they wait for.
    opening: HashMap<String, Vec<Request>>,
}

impl Threads {
    pub fn new<'a>(links: impl Iterator<Item = &'a Link>) -> Self {
        let of_control = links.map(|link| (link.codex_thread_id.clone(), link.thread_id.clone())).collect();
        Threads { of_control, ..Threads::default() }
    }

    pub fn of_control(&self, codex_thread_id: &str) -> Option<&String> {
        self.of_control.get(codex_thread_id)
    }

    /// How many requests wait for a thread.
    pub fn waiting(&self) -> usize {
        self.opening.values().map(Vec::len).sum()
    }

    /// The way to a thread. Unless it is open, the request waits until `opened` or `failed` gives it back.
    pub fn way(&mut self, thread_id: &str, link: Option<&Link>, request: Request) -> (Way, Option<Request>) {
        if let Some(link) = link.filter(|link| self.open.contains(&link.codex_thread_id)) {
            return (Way::Open(link.codex_thread_id.clone()), Some(request));
        }
        let waiting = self.opening.entry(thread_id.to_owned()).or_default();
        waiting.push(request);
        let way = match link {
            _ if waiting.len() > 1 => Way::Wait,
            // Codex keeps nothing of a thread without a turn, so nothing is lost with it.
            Some(link) if link.used => Way::Resume(link.codex_thread_id.clone()),
            _ => Way::Start,
        };
        (way, None)
    }

    /// A thread is open; gives what waited for it.
    pub fn opened(&mut self, thread_id: &str, codex_thread_id: &str) -> Vec<Request> {
        self.of_control.insert(codex_thread_id.to_owned(), thread_id.to_owned());
        self.open.insert(codex_thread_id.to_owned());
        self.opening.remove(thread_id).unwrap_or_default()
    }

    /// A thread could not be opened; gives what waited for it.
    pub fn failed(&mut self, thread_id: &str) -> Vec<Request> {
        self.opening.remove(thread_id).unwrap_or_default()
    }

    /// Codex has ended: nothing is open. Gives everything that waited.
    pub fn closed(&mut self) -> Vec<Request> {
        self.open.clear();
        self.opening.drain().flat_map(|(_, waiting)| waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex_worker::requests::Wanted;

    fn request(id: &str) -> Request {
        Request {
            request_id: id.into(),
            method: "turn/start".into(),
            thread_id: Some("t".into()),
            wanted: Wanted::Read,
        }
    }

    #[test]
    fn requests_for_one_thread_open_it_once_and_go_on_in_their_order() {
        let mut threads = Threads::default();
        assert_eq!(threads.way("t", None, request("a")), (Way::Start, None));
        assert_eq!(threads.way("t", None, request("b")), (Way::Wait, None));
        let ids: Vec<String> =
            threads.opened("t", "c").into_iter().map(|request| request.request_id).collect();
        assert_eq!(ids, ["a", "b"]);
        let link = Link { thread_id: "t".into(), codex_thread_id: "c".into(), used: false };
        assert_eq!(threads.way("t", Some(&link), request("c")), (Way::Open("c".into()), Some(request("c"))));
        assert_eq!(threads.of_control("c").map(String::as_str), Some("t"));
    }

    #[test]
    fn another_process_of_codex_resumes_what_was_used_and_begins_anew_what_was_not() {
        let link = |used| Link { thread_id: "t".into(), codex_thread_id: "c".into(), used };
        let mut threads = Threads::new([link(true)].iter());
        assert_eq!(threads.way("t", Some(&link(true)), request("a")).0, Way::Resume("c".into()));
        assert_eq!(threads.closed().len(), 1);
        assert_eq!(threads.way("t", Some(&link(false)), request("a")).0, Way::Start);
    }
}
