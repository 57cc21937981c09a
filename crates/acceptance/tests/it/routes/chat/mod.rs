//! The legacy chat lanes (control §15).

mod conversations;
mod stream;
mod ui_message_stream;
