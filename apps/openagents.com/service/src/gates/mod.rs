//! Decides which requests get past the door, before any row is looked for: lanes that have ended answer 410, then
//! clients that the lane does not serve any more are told to upgrade (426), then maintenance holds back whoever is
//! left (503). Control §2.1, §2.4, §2.6.

mod compatibility;
mod config;
mod maintenance;

use oa_contract::{Arriving, Barred, Code, Refusal, sunset};

pub(crate) use compatibility::window;
pub(crate) use config::read;
pub use config::{GatesConfig, MaintenanceConfig};

use crate::Control;

impl Control {
    pub(crate) fn gates(&self, arriving: &Arriving<'_>) -> Option<Barred> {
        self.ended(arriving)
            .or_else(|| self.incompatible(arriving))
            .or_else(|| maintenance::decide(&self.config.gates.maintenance, arriving, self.clock.now()))
    }

    /// Only where an operator asked for it: the date alone changes nothing.
    fn ended(&self, arriving: &Arriving<'_>) -> Option<Barred> {
        if !self.config.gates.sunset_enforced || !sunset::has_passed(self.clock.now()) {
            return None;
        }
        let instead = sunset::replacement(arriving.path)?;
        let message = format!("this lane ended on {}; use {instead} instead", sunset::SUNSET_DATE);
        Some(refused(Refusal::new(Code::Gone, message)))
    }
}

fn refused(refusal: Refusal) -> Barred {
    Barred::Refused { refusal: Box::new(refusal), headers: Vec::new(), member: None }
}

#[cfg(test)]
mod tests;
