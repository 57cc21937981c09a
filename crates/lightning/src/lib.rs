//! Money over Lightning, seen from whoever has to move it: the port that every wallet serves, what an invoice is
//! worth, and the receipts of wallets. No HTTP server, no store; every clock and id is the caller's.

pub mod bolt11;
pub mod receipts;
pub mod wallet;

pub use wallet::{
    About, Balances, ChannelClosed, ChannelHealth, ChannelOpened, CloseChannel, Invoice, InvoiceOrder,
    InvoiceRef, InvoiceState, Later, NodeBalances, OnchainOrder, OnchainSent, OnchainState, OpenChannel, Paid,
    PayOrder, PaymentRef, PaymentState, Preimage, ReceiveAddress, Received, Speed, Trouble, Wallet, WalletError,
};
