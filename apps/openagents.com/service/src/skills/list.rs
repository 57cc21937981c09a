//! Decides which specifications a caller sees, and in which portions: what is built in and what belongs to each of
//! the caller's organisations, in one order, up to a number of records and of bytes.

use oa_contract::{Fault, Refusal, Stop, wire::skills::ListSpecs};
use oa_store::{
    Tx,
    tables::skills::{self as rows, Kind, Spec, SpecPlace},
};

use super::{builtin, scope::Scope};
use crate::Control;

const MOST_RECORDS: usize = 1_000;
/// A page ends before it holds more than this, but never empty.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// Where a record stands in the list: by id in lower case, version, and organisation (none for what is built in).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    spec: SpecPlace,
    org_id: String,
}

impl Place {
    fn cursor(&self) -> String {
        serde_json::json!([self.spec.key, self.spec.version, self.org_id]).to_string()
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let read = serde_json::from_str::<(String, u64, String)>(text).ok();
        let read = read.filter(|(key, version, org_id)| {
            *version <= i64::MAX as u64 && !key.contains('\0') && !org_id.contains('\0')
        });
        let (key, version, org_id) = read.ok_or_else(|| {
            Refusal::field("after", "The after field must be the `next` of an earlier page.")
        })?;
        Ok(Place { spec: SpecPlace { key, version }, org_id })
    }
}

struct Ask {
    orgs: Vec<String>,
    kind: Kind,
    limit: usize,
    after: Option<Place>,
}

/// One page.
pub(super) struct Page {
    pub specs: Vec<Spec>,
    pub next: Option<String>,
}

impl Control {
    pub(super) async fn list_specs(&self, scope: &Scope, kind: Kind, query: ListSpecs) -> Result<Page, Stop> {
        let limit = query.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MOST_RECORDS);
        let after = query.after.as_deref().map(Place::parse).transpose()?;
        let ask = Ask { orgs: scope.orgs.clone(), kind, limit: limit.clamp(1, MOST_RECORDS), after };
        self.store.read("skills_list_specs", ask, page).await
    }
}

async fn page(tx: &mut Tx, ask: &Ask) -> Result<Page, Stop> {
    let from = ask.after.as_ref().map_or(SpecPlace { key: String::new(), version: 0 }, |at| at.spec.clone());
    // Up to two rows more: the one that the cursor names, and one that shows whether anything follows.
    let most = u32::try_from(ask.limit + 2).unwrap_or(u32::MAX);
    let mut places: Vec<(Place, u64)> = Vec::new();
    for org_id in &ask.orgs {
        let found = rows::spec_places(tx, org_id, ask.kind, &from, most).await?;
        places.extend(found.into_iter().map(|(spec, bytes)| (Place { spec, org_id: org_id.clone() }, bytes)));
    }
    places.extend(builtin::of_kind(ask.kind).map(|spec| (place_of(spec), spec.text.len() as u64)));
    let (chosen, next) = choose(places, ask);
    Ok(Page { specs: fetch(tx, ask, &chosen).await?, next })
}

fn place_of(spec: &Spec) -> Place {
    Place { spec: SpecPlace { key: spec.key.clone(), version: spec.version }, org_id: spec.org_id.clone() }
}

/// The places of one page in order, and where the next one begins.
fn choose(mut places: Vec<(Place, u64)>, ask: &Ask) -> (Vec<Place>, Option<String>) {
    places.retain(|(place, _)| ask.after.as_ref().is_none_or(|after| place > after));
    places.sort_unstable();
    let (mut bytes, total) = (0_u64, places.len());
    let fits = |(place, more): (Place, u64)| {
        let first = bytes == 0;
        bytes = bytes.saturating_add(more.max(1));
        (first || bytes <= MOST_BYTES).then_some(place)
    };
    let chosen: Vec<Place> = places.into_iter().take(ask.limit).map_while(fits).collect();
    let next = (chosen.len() < total).then(|| chosen.last().map(Place::cursor)).flatten();
    (chosen, next)
}

/// The records at these places, in the same order.
async fn fetch(tx: &mut Tx, ask: &Ask, chosen: &[Place]) -> Result<Vec<Spec>, Stop> {
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return Ok(Vec::new()) };
    let mut found: Vec<(Place, Spec)> =
        builtin::of_kind(ask.kind).map(|spec| (place_of(spec), spec.clone())).collect();
    for org_id in &ask.orgs {
        let specs = rows::specs_between(tx, org_id, ask.kind, &first.spec, &last.spec).await?;
        found.extend(specs.into_iter().map(|spec| (place_of(&spec), spec)));
    }
    found.retain(|(place, _)| place >= first && place <= last);
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    match found.len() == chosen.len() {
        true => Ok(found.into_iter().map(|(_, spec)| spec).collect()),
        false => Err(Fault::msg("a page of specifications changed while it was read").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str, version: u64, org_id: &str) -> Place {
        Place { spec: SpecPlace { key: key.into(), version }, org_id: org_id.into() }
    }

    fn ask(limit: usize, after: Option<Place>) -> Ask {
        Ask { orgs: Vec::new(), kind: Kind::Skill, limit, after }
    }

    #[test]
    fn a_cursor_is_read_back_and_anything_else_is_refused() {
        let place = place("a\"b::1", 7, "org:x");
        assert_eq!(Place::parse(&place.cursor()), Ok(place));
        for bad in
            ["", "a", "[]", "[\"a\",-1,\"\"]", "[\"a\",18446744073709551615,\"\"]", "[\"\\u0000\",1,\"\"]"]
        {
            assert_eq!(Place::parse(bad).expect_err(bad).field.as_deref(), Some("after"));
        }
    }

    #[test]
    fn a_page_ends_by_number_or_by_bytes_but_never_empty() {
        let all =
            || vec![(place("b", 1, ""), 10), (place("a", 2, "org:x"), 10), (place("a", 1, "org:y"), 10)];
        let (first, next) = choose(all(), &ask(2, None));
        assert_eq!(first, [place("a", 1, "org:y"), place("a", 2, "org:x")]);
        let after = Place::parse(&next.expect("more")).expect("a cursor");
        let (second, next) = choose(all(), &ask(2, Some(after)));
        assert_eq!((second, next), (vec![place("b", 1, "")], None));
        let large = vec![
            (place("a", 1, ""), MOST_BYTES + 1),
            (place("b", 1, ""), MOST_BYTES),
            (place("c", 1, ""), 1),
        ];
        let (only, next) = choose(large, &ask(9, None));
        assert_eq!(only, [place("a", 1, "")]);
        assert!(next.is_some());
    }
}
