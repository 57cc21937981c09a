//! The nodes as tests see them: a folder, a way to end them at a chosen commit, and what must hold afterwards.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use oa_lightning_ldk::{Asked, Failure, Invoiced, Moment, Place, Regtest, Sent, Settings, State, Wish};

/// Ends the nodes at one side of one commit, counted from when they are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub commit: u64,
    pub moment: Moment,
}

/// Opens what is in the folder, and counts commits.
pub fn open(folder: &Path, end: Option<End>) -> (Result<Regtest, Failure>, Arc<AtomicU64>) {
    let commits = Arc::new(AtomicU64::new(0));
    let counted = commits.clone();
    let settings = Settings {
        folder: folder.to_owned(),
        seed: [7; 32],
        now: Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")),
        watch: Arc::new(move |_, moment| {
            let commit = match moment {
                Moment::Before => counted.load(Ordering::SeqCst),
                Moment::After => counted.fetch_add(1, Ordering::SeqCst),
            };
            match end {
                Some(end) if end == (End { commit, moment }) => Err(Failure::Stopped),
                _ => Ok(()),
            }
        }),
        channel_sats: 1_000_000,
        // What ends here is a process, never the machine.
        fsync: false,
    };
    (Regtest::open(settings), commits)
}

pub fn alive(folder: &Path) -> Regtest {
    open(folder, None).0.unwrap_or_else(|failure| panic!("{}: {failure}", folder.display()))
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

pub fn invoice(nodes: &mut Regtest, request_id: &str, amount_msats: u64) -> Invoiced {
    let wish = Wish {
        request_id: request_id.into(),
        amount_msats,
        description: "a test".into(),
        expiry_seconds: 3600,
        held: None,
    };
    nodes.invoice(Place::Shop, &wish).expect("an invoice")
}

pub fn asked(request_id: &str, invoice: &Invoiced) -> Asked {
    Asked {
        request_id: request_id.into(),
        invoice: invoice.invoice.clone(),
        amount_msats: invoice.amount_msats,
        max_fee_msats: 10_000,
        host: "shop".into(),
        not_after_ms: None,
    }
}

/// The preimage of a payment that was made, and what it cost beyond its amount.
pub fn paid(sent: &Sent) -> (String, u64) {
    match &sent.state {
        State::Paid { preimage, fee_msats } => (preimage.clone(), *fee_msats),
        other => panic!("not paid: {other:?}"),
    }
}
