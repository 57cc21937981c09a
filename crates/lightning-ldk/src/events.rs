//! Decides what a node does with what LDK tells it. Whatever is kept here is on disk in the commit that lets LDK
//! forget the event: told twice it is kept once, and never not at all.

use lightning::{
    bitcoin::{
        Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute,
        consensus::{deserialize, serialize},
        hashes::Hash as _,
        transaction::Version,
    },
    chain::chaininterface::BroadcasterInterface as _,
    events::Event,
    ln::channelmanager::PaymentId,
    sign::EntropySource as _,
    types::payment::{PaymentHash, PaymentPreimage},
    util::ser::Writeable as _,
};

use oa_contract::canonical::hex;

use crate::{
    node::Heart,
    payments::{Received, Sent, State, held_key, received_key, sent_key},
    regtest::Failure,
};

impl Heart {
    pub fn handle(&self, event: Event) -> Result<(), Failure> {
        match event {
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                ..
            } => {
                let funding = self.out_of_nothing(channel_value_satoshis, output_script);
                let name = funding_key(&funding.compute_txid());
                self.keeper.put(name, serialize(&funding));
                let given = self.manager.funding_transaction_generated(
                    temporary_channel_id,
                    counterparty_node_id,
                    funding,
                );
                if let Err(error) = given {
                    tracing::warn!(node = self.name, ?error, "a channel could not be funded");
                }
            }
            // Both sides hold each other's signatures. LDK broadcasts it too, but not if it is ended just before.
            Event::ChannelPending { funding_txo, .. } => {
                let name = funding_key(&funding_txo.txid);
                if let Some(bytes) = self.keeper.get(&name)? {
                    let funding = deserialize(&bytes).map_err(|error| Failure::torn(&name, &error))?;
                    self.keeper.broadcast_transactions(&[&funding]);
                }
            }
            Event::PaymentClaimable { payment_hash, purpose, .. } => match purpose.preimage() {
                Some(preimage) => self.manager.claim_funds(preimage),
                // Whoever made the invoice has the preimage, and says when.
                None if self.keeper.get(&held_key(&hex(&payment_hash.0)))?.is_some() => {}
                None => self.manager.fail_htlc_backwards(&payment_hash),
            },
            Event::PaymentClaimed { payment_hash, amount_msat, purpose, .. } => {
                self.was_paid(payment_hash, amount_msat, purpose.preimage())?;
            }
            Event::PaymentSent { payment_id: Some(id), payment_preimage, fee_paid_msat, .. } => {
                let fee_msats = fee_paid_msat.unwrap_or(0);
                self.ended(id, State::Paid { preimage: hex(&payment_preimage.0), fee_msats })?;
            }
            Event::PaymentFailed { payment_id, reason, .. } => {
                let reason = reason.map_or_else(|| "unknown".to_owned(), |reason| format!("{reason:?}"));
                self.ended(payment_id, State::Failed { reason })?;
            }
            Event::SpendableOutputs { outputs, channel_id } => {
                // Coins of a closed channel, ours alone now. They stay where they are; what opens them is kept.
                for (at, output) in outputs.iter().enumerate() {
                    let channel = channel_id.map_or_else(String::new, |id| id.to_string());
                    self.keeper.put(format!("spendable/{channel}/{at}"), output.encode());
                }
            }
            other => tracing::debug!(node = self.name, event = ?other, "nothing to do"),
        }
        Ok(())
    }

    /// Coins for a channel, from an input that no block has.
    fn out_of_nothing(&self, value_sats: u64, script_pubkey: ScriptBuf) -> Transaction {
        let nowhere = Txid::from_byte_array(self.keys.get_secure_random_bytes());
        Transaction {
            version: Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint { txid: nowhere, vout: 0 },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0; 64]]),
            }],
            output: vec![TxOut { value: Amount::from_sat(value_sats), script_pubkey }],
        }
    }

    fn was_paid(
        &self,
        payment_hash: PaymentHash,
        amount_msats: u64,
        preimage: Option<PaymentPreimage>,
    ) -> Result<(), Failure> {
        let payment_hash = hex(&payment_hash.0);
        let key = received_key(&payment_hash);
        if self.keeper.get(&key)?.is_none() {
            let preimage = preimage.map(|preimage| hex(&preimage.0));
            let claimed_at_ms = self.now_ms();
            self.keeper.write(key, &Received { payment_hash, preimage, amount_msats, claimed_at_ms });
        }
        Ok(())
    }

    pub fn ended(&self, id: PaymentId, state: State) -> Result<(), Failure> {
        let key = sent_key(id);
        let Some(mut sent) = self.keeper.read::<Sent>(&key)? else {
            tracing::error!(node = self.name, payment = %id, "LDK knows a payment that nobody asked for");
            return Ok(());
        };
        // A preimage is proof; nothing that is said later undoes it.
        if !matches!(sent.state, State::Paid { .. }) {
            sent.state = state;
            sent.ended_at_ms = Some(self.now_ms());
            self.keeper.write(key, &sent);
        }
        Ok(())
    }
}

fn funding_key(txid: &Txid) -> String {
    format!("funding/{txid}")
}
