//! Decides how hard it is made to leave a pool at the moment (§7): from what it owes, what it holds, and how its
//! channels stood at the last snapshot.

use oa_contract::{
    Refusal, Stop, Timestamp,
    wire::pools::{PartitionKind, ThrottleMode, WithdrawThrottle},
};
use oa_store::{Tx, tables::pool_snapshots};
use serde_json::Value;

use super::{
    settings::PoolSettings,
    standing::{Books, books},
};

const SCHEMA: &str = "openagents.liquidity.pool_withdraw_throttle_status.v1";
const BPS: u128 = 10_000;

/// What the node's channels were at the last snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    pub count: u64,
    pub connected: u64,
    pub outbound_sats: u64,
    pub trouble: bool,
}

impl Channels {
    pub fn of(assets_json: &str) -> Self {
        let assets: Value = serde_json::from_str(assets_json).unwrap_or_default();
        let lightning = &assets["lightning"];
        let number = |name: &str| lightning[name].as_u64().unwrap_or_default();
        Channels {
            count: number("channelCount"),
            connected: number("connectedChannelCount"),
            outbound_sats: number("channelOutboundSats"),
            trouble: !lightning["lastError"].is_null(),
        }
    }
}

/// Everything that is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    pub pending_sats: u64,
    pub assets_sats: u64,
    pub reserved_sats: u64,
    /// None without a snapshot.
    pub channels: Option<Channels>,
}

/// The throttle of a pool: computed from its Lightning partition, whatever is withdrawn from.
pub fn judge(pool_id: &str, settings: &PoolSettings, inputs: &Inputs, now: Timestamp) -> WithdrawThrottle {
    let limits = settings.thresholds;
    let liabilities = inputs.pending_sats.saturating_add(inputs.reserved_sats);
    let pressure = bps(liabilities, inputs.assets_sats.max(1)).unwrap_or_default();
    let channels = inputs.channels.clone().unwrap_or_default();
    let connected = bps(channels.connected.min(channels.count), channels.count);
    let coverage = bps(channels.outbound_sats, inputs.pending_sats);
    let checks = [
        (
            pressure >= limits.halt_liability_bps,
            "liabilities_pressure_halt_threshold",
            pressure >= limits.stress_liability_bps,
            "liabilities_pressure_stress_threshold",
        ),
        (
            connected.is_some_and(|ratio| ratio <= limits.halt_connected_bps),
            "channel_connectivity_halt_threshold",
            connected.is_some_and(|ratio| ratio <= limits.stress_connected_bps),
            "channel_connectivity_stress_threshold",
        ),
        (
            coverage.is_some_and(|coverage| coverage <= limits.halt_outbound_bps),
            "outbound_coverage_halt_threshold",
            coverage.is_some_and(|coverage| coverage <= limits.stress_outbound_bps),
            "outbound_coverage_stress_threshold",
        ),
        (false, "", inputs.channels.is_none() && liabilities > 0, "llp_lightning_snapshot_missing"),
        (false, "", channels.trouble, "llp_lightning_last_error"),
    ];
    let halted: Vec<&str> = checks.iter().filter(|check| check.0).map(|check| check.1).collect();
    let stressed: Vec<&str> =
        checks.iter().filter(|check| !check.0 && check.2).map(|check| check.3).collect();
    let (mode, mut reasons, delay, cap) = match (settings.lp_mode_enabled, &halted[..], &stressed[..]) {
        (false, ..) => (ThrottleMode::Normal, vec!["lp_mode_disabled"], 0, None),
        (true, [], []) => (ThrottleMode::Normal, vec!["healthy"], 0, None),
        (true, [], _) => {
            let cap = Some(limits.stress_cap_per_tick);
            (ThrottleMode::Stressed, stressed, limits.stress_extra_delay_hours, cap)
        }
        (true, ..) => (ThrottleMode::Halted, halted, limits.halt_extra_delay_hours, Some(0)),
    };
    reasons.sort_unstable();
    reasons.dedup();
    WithdrawThrottle {
        schema: SCHEMA.into(),
        pool_id: pool_id.to_owned(),
        lp_mode_enabled: settings.lp_mode_enabled,
        mode,
        reasons: reasons.into_iter().map(str::to_owned).collect(),
        liabilities_pressure_bps: pressure,
        pending_withdrawals_sats_estimate: inputs.pending_sats,
        cep_reserved_commitments_sats: inputs.reserved_sats,
        channel_connected_ratio_bps: connected,
        channel_outbound_coverage_bps: coverage,
        extra_delay_hours: delay,
        execution_cap_per_tick: cap,
        generated_at: now,
    }
}

/// None of nothing.
fn bps(part: u64, whole: u64) -> Option<u32> {
    let ratio = (u128::from(part) * BPS).checked_div(whole.into())?;
    Some(u32::try_from(ratio).unwrap_or(u32::MAX))
}

/// What leaving is answered with while it is halted.
pub fn halted(throttle: &WithdrawThrottle) -> Refusal {
    Refusal::conflict(format!("withdrawals halted by throttle: {}", throttle.reasons.join(",")))
}

/// The throttle of a pool as it stands.
pub async fn of_pool(
    tx: &mut Tx,
    pool_id: &str,
    settings: &PoolSettings,
    now: Timestamp,
) -> Result<WithdrawThrottle, Stop> {
    let llp: Books = books(tx, pool_id, PartitionKind::Llp).await?;
    let cep = books(tx, pool_id, PartitionKind::Cep).await?;
    let snapshot = pool_snapshots::latest(tx, pool_id, PartitionKind::Llp).await?;
    let inputs = Inputs {
        pending_sats: llp.row.pending_sats,
        assets_sats: llp.standing.assets_sats(),
        reserved_sats: cep.committed_sats(),
        channels: snapshot.map(|row| Channels::of(row.snapshot.assets_json.get())),
    };
    Ok(judge(pool_id, settings, &inputs, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> PoolSettings {
        PoolSettings { lp_mode_enabled: true, ..PoolSettings::default() }
    }

    fn channels(connected: u64, outbound_sats: u64) -> Option<Channels> {
        Some(Channels { count: 10, connected, outbound_sats, trouble: false })
    }

    fn judged(settings: &PoolSettings, inputs: &Inputs) -> (ThrottleMode, Vec<String>, u32, Option<u32>) {
        let judged = judge("pool", settings, inputs, Timestamp::EPOCH);
        (judged.mode, judged.reasons, judged.extra_delay_hours, judged.execution_cap_per_tick)
    }

    #[test]
    fn without_lp_mode_nothing_is_throttled() {
        let inputs = Inputs { pending_sats: 1_000_000, ..Inputs::default() };
        let (mode, reasons, delay, cap) = judged(&PoolSettings::default(), &inputs);
        assert_eq!((mode, delay, cap), (ThrottleMode::Normal, 0, None));
        assert_eq!(reasons, ["lp_mode_disabled"]);
    }

    #[test]
    fn each_threshold_stresses_and_then_halts() {
        let with =
            |pending_sats, channels| Inputs { pending_sats, assets_sats: 10_000, reserved_sats: 0, channels };
        let healthy = judged(&settings(), &with(0, channels(10, 0)));
        assert_eq!(healthy, (ThrottleMode::Normal, vec!["healthy".into()], 0, None));
        let cases = [
            (with(2_500, channels(10, 100_000)), "liabilities_pressure_stress_threshold"),
            (with(5_000, channels(10, 100_000)), "liabilities_pressure_halt_threshold"),
            (with(0, channels(7, 0)), "channel_connectivity_stress_threshold"),
            (with(0, channels(4, 0)), "channel_connectivity_halt_threshold"),
            (with(100, channels(10, 100)), "outbound_coverage_stress_threshold"),
            (with(100, channels(10, 50)), "outbound_coverage_halt_threshold"),
            (Inputs { reserved_sats: 1, ..with(0, None) }, "llp_lightning_snapshot_missing"),
        ];
        for (inputs, reason) in cases {
            let (mode, reasons, delay, cap) = judged(&settings(), &inputs);
            assert_eq!(reasons, [reason]);
            let expected = match reason.contains("halt") {
                true => (ThrottleMode::Halted, 72, Some(0)),
                false => (ThrottleMode::Stressed, 24, Some(5)),
            };
            assert_eq!((mode, delay, cap), expected, "{reason}");
        }
    }

    #[test]
    fn only_reasons_of_a_halt_are_told_while_it_lasts_and_in_order() {
        let inputs = Inputs {
            pending_sats: 10_000,
            assets_sats: 10_000,
            reserved_sats: 5,
            channels: Some(Channels { count: 10, connected: 7, outbound_sats: 0, trouble: true }),
        };
        let throttle = judge("pool", &settings(), &inputs, Timestamp::EPOCH);
        assert_eq!(
            throttle.reasons,
            ["liabilities_pressure_halt_threshold", "outbound_coverage_halt_threshold"]
        );
        assert_eq!(throttle.liabilities_pressure_bps, 10_005);
        assert_eq!(throttle.channel_connected_ratio_bps, Some(7_000));
        assert_eq!(
            halted(&throttle).message,
            "withdrawals halted by throttle: liabilities_pressure_halt_threshold,outbound_coverage_halt_threshold"
        );
    }

    #[test]
    fn hostile_numbers_neither_wrap_nor_panic() {
        let inputs = Inputs {
            pending_sats: u64::MAX,
            assets_sats: 0,
            reserved_sats: u64::MAX,
            channels: Some(Channels::of(r#"{"lightning":{"channelCount":-1,"channelOutboundSats":"x"}}"#)),
        };
        assert_eq!(judge("p", &settings(), &inputs, Timestamp::EPOCH).liabilities_pressure_bps, u32::MAX);
        assert_eq!(Channels::of("nonsense"), Channels { trouble: false, ..Channels::default() });
    }
}
