//! Decides what people and probes find around the API: the first page, the way to the desktop application, and a proof
//! that streams would be delivered (control §16); one file a route.

mod compat_migration;
pub(crate) mod config;
mod download_desktop;
mod landing;
mod smoke;

pub use config::ShellConfig;
