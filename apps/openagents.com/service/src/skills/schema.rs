//! Decides whether a schema that a specification carries is one: JSON Schema 2020-12, checked against its
//! meta-schema alone, so that no reference in it is ever followed.

use oa_contract::Refusal;
use serde_json::Value;

/// The members that hold a schema.
const MEMBERS: [&str; 3] = ["input_schema", "output_schema", "parameters"];
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Checks every schema in `spec`; `under` begins the path of the field.
pub(super) fn check(spec: &Value, under: &str) -> Result<(), Refusal> {
    for member in MEMBERS {
        if let Some(schema) = spec.get(member) {
            let field = format!("{under}.{member}");
            decide(schema).map_err(|why| {
                Refusal::field(&field, format!("The {field} field must be a JSON Schema 2020-12: {why}."))
            })?;
        }
    }
    Ok(())
}

fn decide(schema: &Value) -> Result<(), String> {
    if let Some(dialect) = schema.get("$schema")
        && dialect.as_str().map(|uri| uri.trim_end_matches('#')) != Some(DIALECT)
    {
        return Err(format!("its $schema is not {DIALECT}"));
    }
    jsonschema::draft202012::meta::validate(schema).map_err(|error| {
        let place = error.instance_path().to_string();
        let what: String = error.to_string().chars().take(200).collect();
        match place.is_empty() {
            true => what,
            false => format!("{what}, at {place}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_checked_and_its_references_are_left_alone() {
        for good in [
            json!({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/never-fetched"}}}),
            json!(true),
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": ["string", "null"]}),
            json!({}),
        ] {
            assert_eq!(check(&json!({"parameters": good}), "tool_spec"), Ok(()));
        }
        assert_eq!(check(&json!({"name": "no schema"}), "tool_spec"), Ok(()));
    }

    #[test]
    fn what_is_no_schema_is_named_by_its_path() {
        for (member, bad) in [
            ("input_schema", json!({"type": "strin"})),
            ("output_schema", json!([])),
            ("parameters", json!(null)),
            ("parameters", json!({"properties": {"a": {"minLength": -1}}})),
            ("input_schema", json!({"$schema": "http://json-schema.org/draft-07/schema#"})),
        ] {
            let refused = check(&json!({member: bad}), "skill_spec").expect_err("refused");
            assert_eq!(refused.field, Some(format!("skill_spec.{member}")));
        }
    }

    #[test]
    fn the_deepest_schema_that_is_taken_does_no_harm() {
        for member in ["properties", "not", "items", "$defs"] {
            let mut deep = json!({});
            for _ in 0..62 {
                deep = json!({member: deep});
            }
            assert_eq!(decide(&deep), Ok(()), "{member}");
        }
    }
}
