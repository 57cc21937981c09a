//! Money over Lightning, seen from whoever has to move it: the port that every wallet serves, what an invoice is
//! worth, and the receipts of wallets. No HTTP server, no store; every clock and id is the caller's.

pub mod bolt11;
pub mod executor;
pub mod lnd;
pub mod none;
pub mod receipts;
pub mod simulated;
pub mod wallet;

pub use executor::Executor;
pub use lnd::Lnd;
pub use none::{NoNode, NoWallet};
pub use simulated::Simulated;
pub use wallet::{
    About, Balances, ChannelClosed, ChannelHealth, ChannelOpened, CloseChannel, Invoice, InvoiceOrder,
    InvoiceRef, InvoiceState, Later, NodeBalances, OnchainOrder, OnchainSent, OnchainState, OpenChannel,
    Paid, PayOrder, PaymentRef, PaymentState, Preimage, Promises, ReceiveAddress, Received, Speed, Trouble,
    Wallet, WalletError,
};
