//! Decides how a stored row proves that it is the row that was written: SQLite keeps no checksums of its
//! pages, so a flipped bit would otherwise be served as if it were true.

use oa_contract::refusal::Fault;
use sha2::{Digest, Sha256};

use crate::statement::Statement;
use crate::value::Value;

/// The column that carries the seal of the columns before it.
pub(crate) const COLUMN: &str = "seal";

/// A running seal over the values of one row.
pub(crate) struct Sealing(Sha256);

impl Sealing {
    /// The table's name goes in first, so that a row of one table is no valid row of another.
    pub(crate) fn of(table: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((table.len() as u64).to_be_bytes());
        hash.update(table);
        Sealing(hash)
    }

    /// Each value goes in with its kind and its length: no two rows share an encoding.
    pub(crate) fn add(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.0.update([0]),
            Value::Int(number) => self.short(number),
            Value::Text(text) => self.long(2, text.as_bytes()),
            Value::Bytes(bytes) => self.long(3, bytes),
        }
    }

    fn short(&mut self, number: i64) {
        let mut buffer = [1; 9];
        buffer[1..].copy_from_slice(&number.to_be_bytes());
        self.0.update(buffer);
    }

    fn long(&mut self, kind: u8, bytes: &[u8]) {
        let mut buffer = [kind; 9];
        buffer[1..].copy_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.update(buffer);
        self.0.update(bytes);
    }

    /// The first eight bytes of the hash: enough to catch accidents, which is all a seal is for.
    pub(crate) fn close(self) -> i64 {
        let hash = self.0.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        i64::from_be_bytes(first)
    }
}

/// The seal of a row that is about to be written.
pub(crate) fn seal(table: &str, values: &[Value<'_>]) -> i64 {
    let mut sealing = Sealing::of(table);
    values.iter().for_each(|value| sealing.add(*value));
    sealing.close()
}

/// What to say when a row is not what was written.
pub(crate) fn broken(what: &str) -> Fault {
    Fault::msg(format!(
        "{what}: the stored row does not match its seal: run `oa verify-store`, then restore a backup"
    ))
}

/// What to say when a statement that should check seals does not read them.
pub(crate) fn missing(statement: &Statement) -> Fault {
    Fault::msg(format!(
        "the statement `{}` is declared sealed but reads no column `{COLUMN}`",
        statement.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_letter_between_columns_breaks_the_seal() {
        let one = seal("t", &[Value::Text("ab"), Value::Text("c")]);
        assert_ne!(one, seal("t", &[Value::Text("a"), Value::Text("bc")]));
        assert_ne!(one, seal("u", &[Value::Text("ab"), Value::Text("c")]));
        assert_ne!(one, seal("t", &[Value::Bytes(b"ab"), Value::Text("c")]));
        assert_eq!(one, seal("t", &[Value::Text("ab"), Value::Text("c")]));
    }

    #[test]
    fn nothing_zero_and_empty_are_three_different_things() {
        let all = [Value::Null, Value::Int(0), Value::Text(""), Value::Bytes(b"")].map(|v| seal("t", &[v]));
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
    }
}
