//! Decides what a `402` asks for: a macaroon and an invoice in `www-authenticate` (control §11.6).

/// What has to be paid, and what is bought with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub macaroon: String,
    pub invoice: String,
}

/// Nothing longer is looked at.
const LONGEST: usize = 16 * 1024;

impl Challenge {
    /// The first usable challenge among the values of the header.
    pub fn read<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        headers.into_iter().find_map(Self::parse)
    }

    fn parse(header: &str) -> Option<Self> {
        if header.len() > LONGEST {
            return None;
        }
        let at = header.to_ascii_lowercase().find("l402")?;
        let rest = header.get(at + 4..)?;
        let (mut macaroon, mut invoice) = (None, None);
        for pair in rest.split(',') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let Some(value) = value.trim().strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
                continue;
            };
            let slot = match name.trim().to_ascii_lowercase().as_str() {
                "macaroon" => &mut macaroon,
                "invoice" => &mut invoice,
                _ => continue,
            };
            slot.get_or_insert_with(|| value.trim().to_owned());
        }
        let plain = |text: &String| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\":,".contains(&byte))
        };
        let (macaroon, invoice) = (macaroon.filter(plain)?, invoice.filter(plain)?);
        Some(Challenge { macaroon, invoice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_found_in_every_allowed_dress() {
        let wanted = Some(Challenge { macaroon: "bWFj=".into(), invoice: "lnbc1".into() });
        for header in [
            r#"L402 macaroon="bWFj=", invoice="lnbc1""#,
            r#"l402 invoice="lnbc1",macaroon="bWFj=""#,
            r#"Basic realm="x", L402  version="0", Macaroon = "bWFj=" , INVOICE="lnbc1""#,
        ] {
            assert_eq!(Challenge::read([header]), wanted, "{header}");
        }
        assert_eq!(Challenge::read(["Basic", r#"L402 macaroon="bWFj=", invoice="lnbc1""#]), wanted);
    }

    #[test]
    fn what_lacks_something_is_no_challenge() {
        for header in [
            "",
            "L402",
            r#"L402 macaroon="m""#,
            r#"L402 invoice="i""#,
            r#"L402 macaroon=m, invoice="i""#,
            r#"L402 macaroon="", invoice="i""#,
            r#"Bearer macaroon="m", invoice="i""#,
            "L402 macaroon=\"a b\", invoice=\"i\"",
            "L402 macaroon=\"m:n\", invoice=\"i\"",
        ] {
            assert_eq!(Challenge::read([header]), None, "{header}");
        }
        assert_eq!(
            Challenge::read([format!("L402 macaroon=\"{}\", invoice=\"i\"", "m".repeat(LONGEST)).as_str()]),
            None
        );
    }
}
