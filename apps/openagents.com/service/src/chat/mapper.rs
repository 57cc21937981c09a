//! Decides which chunks a notification of codex becomes, and refuses a turn that is told in an impossible order (control
//! §15.2). Pure: it knows the one turn that it has been told so far and nothing else.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::frames;

/// Texts, reasonings and tool calls of one turn, at most.
const ITEMS_MAX: usize = 4_096;
/// Bytes of a tool's output that are told again at its end.
const OUTPUT_MAX: usize = 64 * 1024;

/// An order in which no turn can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    SecondStart,
    StepBeforeStart,
    SecondStep,
    ContentBeforeStep,
    OutputBeforeInput,
    SecondFinishStep,
    SecondFinish,
    FinishWithoutStep,
    EndWithoutFinish,
    TooManyItems,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Violation::SecondStart => "the thread began twice",
            Violation::StepBeforeStart => "a turn began before its thread",
            Violation::SecondStep => "the turn began twice",
            Violation::ContentBeforeStep => "something was said before the turn began",
            Violation::OutputBeforeInput => "a tool put something out before it was called",
            Violation::SecondFinishStep => "the turn ended twice",
            Violation::SecondFinish => "something came after the end",
            Violation::FinishWithoutStep => "the end came without the end of the turn",
            Violation::EndWithoutFinish => "the turn was told without its end",
            Violation::TooManyItems => "the turn holds more than can be followed",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Started,
    InStep,
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
}

/// The chunks of one turn so far.
#[derive(Debug)]
pub struct Mapper {
    thread_id: String,
    turn_id: String,
    phase: Phase,
    /// Texts and reasonings by kind and id, and whether they are still open.
    spoken: BTreeMap<(bool, String), bool>,
    /// What called tools have put out so far.
    tools: BTreeMap<String, String>,
}

type Chunks = Result<Vec<Value>, Violation>;

impl Mapper {
    pub fn new(thread_id: &str) -> Self {
        Mapper {
            thread_id: thread_id.to_owned(),
            turn_id: String::new(),
            phase: Phase::New,
            spoken: BTreeMap::new(),
            tools: BTreeMap::new(),
        }
    }

    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// The chunks of one notification; none for those that say nothing to a reader.
    pub fn notification(&mut self, method: &str, params: &Value) -> Chunks {
        match method {
            "thread/started" => self.start(),
            "turn/started" => {
                let model = word(&[&params["model"], &params["turn"]["model"]]).unwrap_or(frames::MODEL);
                self.start_step(turn_id(params).unwrap_or_default(), model)
            }
            "item/started" => self.item_started(&params["item"]),
            "item/agentMessage/delta" => self.delta(Kind::Text, params),
            "item/reasoning/summaryTextDelta" => self.delta(Kind::Reasoning, params),
            "item/toolOutput/delta" => self.tool_progress(params),
            "item/completed" => self.item_completed(&params["item"]),
            "turn/completed" => {
                let status = word(&[&params["turn"]["status"], &params["status"]]);
                self.complete(status.unwrap_or("completed"))
            }
            "turn/failed" | "turn/aborted" | "turn/interrupted" => {
                let code = format!("turn_{}", method.trim_start_matches("turn/"));
                self.failed(&code, params)
            }
            "codex/error" => self.failed("codex_error", params),
            _ => Ok(Vec::new()),
        }
    }

    /// The reader's message begins.
    pub fn start(&mut self) -> Chunks {
        match self.phase {
            Phase::New => {
                self.phase = Phase::Started;
                Ok(vec![frames::start(&self.thread_id)])
            }
            Phase::Finished => Err(Violation::SecondFinish),
            _ => Err(Violation::SecondStart),
        }
    }

    /// The turn begins.
    pub fn start_step(&mut self, turn_id: &str, model: &str) -> Chunks {
        match self.phase {
            Phase::New => Err(Violation::StepBeforeStart),
            Phase::Started => {
                self.phase = Phase::InStep;
                self.turn_id = turn_id.to_owned();
                Ok(frames::start_step(&self.thread_id, turn_id, model).to_vec())
            }
            Phase::InStep => Err(Violation::SecondStep),
            Phase::Finished => Err(Violation::SecondFinish),
        }
    }

    /// Something went wrong that ends the message, whatever was open.
    pub fn fail(&mut self, code: &str, message: &str, retryable: bool) -> Chunks {
        if self.is_finished() {
            return Err(Violation::SecondFinish);
        }
        let mut chunks = self.close_all();
        chunks.push(frames::error(message));
        chunks.push(frames::finish_with_error(code, retryable));
        self.phase = Phase::Finished;
        Ok(chunks)
    }

    /// Nothing more will be told.
    pub fn end(&self) -> Result<(), Violation> {
        match self.is_finished() {
            true => Ok(()),
            false => Err(Violation::EndWithoutFinish),
        }
    }

    fn in_step(&self) -> Result<(), Violation> {
        match self.phase {
            Phase::InStep => Ok(()),
            Phase::Finished => Err(Violation::SecondFinish),
            Phase::New | Phase::Started => Err(Violation::ContentBeforeStep),
        }
    }

    fn item_started(&mut self, item: &Value) -> Chunks {
        let id = word(&[&item["id"]]).unwrap_or_default();
        match kind(item).as_str() {
            "agentmessage" => {
                self.in_step()?;
                self.open(Kind::Text, id)
            }
            "mcptoolcall" => {
                self.in_step()?;
                self.call(id, item)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A text or a reasoning begins, once.
    fn open(&mut self, kind: Kind, id: &str) -> Chunks {
        let key = (kind == Kind::Reasoning, id.to_owned());
        if self.spoken.contains_key(&key) {
            return Ok(Vec::new());
        }
        self.make_room()?;
        self.spoken.insert(key, true);
        Ok(vec![match kind {
            Kind::Text => frames::text_start(id),
            Kind::Reasoning => frames::reasoning_start(id),
        }])
    }

    fn delta(&mut self, kind: Kind, params: &Value) -> Chunks {
        self.in_step()?;
        let delta = params["delta"].as_str().unwrap_or_default();
        if delta.is_empty() {
            return Ok(Vec::new());
        }
        let id = word(&[&params["itemId"], &params["item_id"], &params["id"]]).unwrap_or_default();
        let mut chunks = self.open(kind, id)?;
        // What was closed stays closed: its whole text was told.
        if self.spoken.get(&(kind == Kind::Reasoning, id.to_owned())) == Some(&true) {
            chunks.push(match kind {
                Kind::Text => frames::text_delta(id, delta),
                Kind::Reasoning => frames::reasoning_delta(id, delta),
            });
        }
        Ok(chunks)
    }

    fn call(&mut self, id: &str, item: &Value) -> Chunks {
        if self.tools.contains_key(id) {
            return Ok(Vec::new());
        }
        self.make_room()?;
        let tool = word(&[&item["tool_name"], &item["toolName"], &item["tool"]]).unwrap_or("tool");
        let input = [&item["arguments"], &item["input"]].into_iter().find(|input| !input.is_null());
        self.tools.insert(id.to_owned(), String::new());
        Ok(vec![frames::tool_input(id, tool, input.unwrap_or(&Value::Null))])
    }

    fn tool_progress(&mut self, params: &Value) -> Chunks {
        self.in_step()?;
        let names = [&params["itemId"], &params["item_id"], &params["toolCallId"], &params["id"]];
        let id = word(&names).unwrap_or_default();
        let delta = params["delta"].as_str().unwrap_or_default();
        let output = self.tools.get_mut(id).ok_or(Violation::OutputBeforeInput)?;
        if delta.is_empty() {
            return Ok(Vec::new());
        }
        if output.len() + delta.len() <= OUTPUT_MAX {
            output.push_str(delta);
        }
        Ok(vec![frames::tool_progress(id, delta)])
    }

    fn item_completed(&mut self, item: &Value) -> Chunks {
        let id = word(&[&item["id"]]).unwrap_or_default();
        match kind(item).as_str() {
            "agentmessage" => {
                self.in_step()?;
                self.complete_text(id, item["text"].as_str().unwrap_or_default())
            }
            "reasoning" => {
                self.in_step()?;
                Ok(self.close(Kind::Reasoning, id))
            }
            "mcptoolcall" => {
                self.in_step()?;
                let output = self.tools.get(id).ok_or(Violation::OutputBeforeInput)?;
                let status = word(&[&item["status"]]).unwrap_or("completed");
                Ok(vec![frames::tool_output(id, status, output)])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A text that came without deltas is told at once.
    fn complete_text(&mut self, id: &str, text: &str) -> Chunks {
        let mut chunks = self.open(Kind::Text, id)?;
        if !chunks.is_empty() && !text.is_empty() {
            chunks.push(frames::text_delta(id, text));
        }
        chunks.extend(self.close(Kind::Text, id));
        Ok(chunks)
    }

    fn close(&mut self, kind: Kind, id: &str) -> Vec<Value> {
        match self.spoken.get_mut(&(kind == Kind::Reasoning, id.to_owned())) {
            Some(open) if *open => {
                *open = false;
                vec![ended(kind == Kind::Reasoning, id)]
            }
            _ => Vec::new(),
        }
    }

    fn close_all(&mut self) -> Vec<Value> {
        let open = self.spoken.iter_mut().filter(|(_, open)| **open);
        open.map(|((reasoning, id), open)| {
            *open = false;
            ended(*reasoning, id)
        })
        .collect()
    }

    fn complete(&mut self, status: &str) -> Chunks {
        match self.phase {
            Phase::InStep => {
                let mut chunks = self.close_all();
                chunks.push(frames::finish_step());
                chunks.push(frames::finish(&self.turn_id, status));
                self.phase = Phase::Finished;
                Ok(chunks)
            }
            Phase::Finished => Err(Violation::SecondFinishStep),
            Phase::New | Phase::Started => Err(Violation::FinishWithoutStep),
        }
    }

    fn failed(&mut self, code: &str, params: &Value) -> Chunks {
        let error = &params["error"];
        let messages = [&error["message"], &params["message"], &params["turn"]["error"]["message"], error];
        let message = word(&messages).unwrap_or("the turn did not end well");
        let retries =
            [&params["will_retry"], &params["willRetry"], &error["will_retry"], &error["willRetry"]];
        let retryable = retries.into_iter().find_map(Value::as_bool).unwrap_or(false);
        self.fail(code, message, retryable)
    }

    fn make_room(&self) -> Result<(), Violation> {
        match self.spoken.len() + self.tools.len() < ITEMS_MAX {
            true => Ok(()),
            false => Err(Violation::TooManyItems),
        }
    }
}

fn ended(reasoning: bool, id: &str) -> Value {
    match reasoning {
        true => frames::reasoning_end(id),
        false => frames::text_end(id),
    }
}

/// What an item is, in either spelling.
fn kind(item: &Value) -> String {
    let name = word(&[&item["type"], &item["kind"]]).unwrap_or_default();
    name.chars().filter(|letter| *letter != '_').collect::<String>().to_lowercase()
}

/// The turn that a notification is about.
pub fn turn_id(params: &Value) -> Option<&str> {
    word(&[&params["turn"]["id"], &params["turnId"], &params["turn_id"]])
}

/// The first of these that is a text and says something.
fn word<'a>(values: &[&'a Value]) -> Option<&'a str> {
    values.iter().find_map(|value| value.as_str().map(str::trim).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Tells a turn; the chunks by their types, or what was wrong with it.
    fn told(notifications: &[(&str, Value)]) -> Result<Vec<String>, Violation> {
        let mut mapper = Mapper::new("thread-1");
        let mut types = Vec::new();
        for (method, params) in notifications {
            let chunks = mapper.notification(method, params)?;
            types.extend(chunks.iter().map(|chunk| chunk["type"].as_str().unwrap_or("?").to_owned()));
        }
        mapper.end()?;
        Ok(types)
    }

    fn begun(more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
        let mut all = vec![("thread/started", json!({})), ("turn/started", json!({"turn": {"id": "t1"}}))];
        all.extend_from_slice(more);
        all
    }

    fn item(kind: &str, id: &str) -> Value {
        json!({"item": {"id": id, "type": kind, "tool_name": "search", "arguments": {"q": 1}}})
    }

    #[test]
    fn a_turn_with_everything_in_it_is_told_in_order() {
        let all = begun(&[
            ("item/reasoning/summaryTextDelta", json!({"itemId": "r", "delta": "hm"})),
            ("item/completed", item("reasoning", "r")),
            ("item/started", item("mcp_tool_call", "c")),
            ("item/toolOutput/delta", json!({"itemId": "c", "delta": "42"})),
            ("item/completed", item("mcpToolCall", "c")),
            ("item/started", item("agentMessage", "m")),
            ("item/started", item("agent_message", "m")),
            ("item/agentMessage/delta", json!({"itemId": "m", "delta": "It is "})),
            ("item/agentMessage/delta", json!({"item_id": "m", "delta": "42."})),
            ("item/commandExecution/outputDelta", json!({"delta": "nothing to a reader"})),
            ("item/completed", item("agent_message", "m")),
            ("turn/completed", json!({"turn": {"id": "t1", "status": "completed"}})),
        ]);
        assert_eq!(
            told(&all).expect("a turn"),
            [
                "start",
                "start-step",
                "message-metadata",
                "reasoning-start",
                "reasoning-delta",
                "reasoning-end",
                "tool-input-available",
                "data-tool-output",
                "tool-output-available",
                "text-start",
                "text-delta",
                "text-delta",
                "text-end",
                "finish-step",
                "finish",
            ]
        );
    }

    #[test]
    fn a_text_begins_with_its_first_delta_and_ends_with_the_turn_if_nothing_else_ends_it() {
        let all = begun(&[
            ("item/agentMessage/delta", json!({"delta": "a"})),
            ("turn/completed", json!({"status": "interrupted"})),
        ]);
        let types = told(&all).expect("a turn");
        assert_eq!(types[3..], ["text-start", "text-delta", "text-end", "finish-step", "finish"]);
    }

    #[test]
    fn a_text_without_deltas_is_told_whole() {
        let mut mapper = Mapper::new("thread-1");
        for (method, params) in begun(&[]) {
            mapper.notification(method, &params).expect("begun");
        }
        let whole = json!({"item": {"id": "m", "type": "agentMessage", "text": "Hello."}});
        let chunks = mapper.notification("item/completed", &whole).expect("a text");
        assert_eq!(
            chunks,
            [frames::text_start("m"), frames::text_delta("m", "Hello."), frames::text_end("m")]
        );
        assert_eq!(mapper.notification("item/completed", &whole), Ok(Vec::new()), "told once");
    }

    #[test]
    fn a_turn_that_fails_ends_with_the_error_and_without_the_end_of_its_step() {
        for (method, code) in [
            ("turn/failed", "turn_failed"),
            ("turn/aborted", "turn_aborted"),
            ("turn/interrupted", "turn_interrupted"),
            ("codex/error", "codex_error"),
        ] {
            let mut mapper = Mapper::new("thread-1");
            for (method, params) in
                begun(&[("item/agentMessage/delta", json!({"itemId": "m", "delta": "a"}))])
            {
                mapper.notification(method, &params).expect("begun");
            }
            let chunks =
                mapper.notification(method, &json!({"error": {"message": "no"}, "will_retry": true}));
            assert_eq!(
                chunks.expect("an end"),
                [frames::text_end("m"), frames::error("no"), frames::finish_with_error(code, true)]
            );
            assert!(mapper.is_finished());
        }
    }

    #[test]
    fn an_impossible_order_is_refused() {
        let start = ("thread/started", json!({}));
        let step = ("turn/started", json!({"turnId": "t"}));
        let text = ("item/agentMessage/delta", json!({"delta": "x"}));
        let done = ("turn/completed", json!({}));
        let failed = ("turn/failed", json!({}));
        let cases = [
            (vec![start.clone(), start.clone()], Violation::SecondStart),
            (vec![start.clone(), step.clone(), start.clone()], Violation::SecondStart),
            (vec![step.clone()], Violation::StepBeforeStart),
            (vec![start.clone(), step.clone(), step.clone()], Violation::SecondStep),
            (vec![start.clone(), text.clone()], Violation::ContentBeforeStep),
            (vec![text.clone()], Violation::ContentBeforeStep),
            (vec![start.clone(), ("item/started", item("mcpToolCall", "c"))], Violation::ContentBeforeStep),
            (
                vec![
                    start.clone(),
                    step.clone(),
                    ("item/toolOutput/delta", json!({"itemId": "c", "delta": "x"})),
                ],
                Violation::OutputBeforeInput,
            ),
            (
                vec![start.clone(), step.clone(), ("item/completed", item("mcp_tool_call", "c"))],
                Violation::OutputBeforeInput,
            ),
            (vec![start.clone(), done.clone()], Violation::FinishWithoutStep),
            (vec![start.clone(), step.clone(), done.clone(), done.clone()], Violation::SecondFinishStep),
            (vec![start.clone(), step.clone(), failed.clone(), failed], Violation::SecondFinish),
            (vec![start.clone(), step.clone(), done.clone(), text], Violation::SecondFinish),
            (vec![start.clone(), step.clone(), done, step.clone()], Violation::SecondFinish),
            (vec![start.clone(), step.clone()], Violation::EndWithoutFinish),
            (vec![], Violation::EndWithoutFinish),
        ];
        for (notifications, violation) in cases {
            assert_eq!(told(&notifications), Err(violation), "{notifications:?}");
        }
    }

    #[test]
    fn a_turn_without_end_does_not_grow_without_end() {
        let mut mapper = Mapper::new("thread-1");
        for (method, params) in begun(&[]) {
            mapper.notification(method, &params).expect("begun");
        }
        let last = (0..=ITEMS_MAX)
            .map(|id| mapper.notification("item/started", &item("agentMessage", &id.to_string())).err());
        assert_eq!(last.last(), Some(Some(Violation::TooManyItems)));
    }

    #[test]
    fn strange_params_say_nothing_and_never_panic() {
        let mut mapper = Mapper::new("thread-1");
        for (method, params) in begun(&[]) {
            mapper.notification(method, &params).expect("begun");
        }
        for params in [json!(null), json!([1]), json!("x"), json!({"item": 7, "delta": {}, "turn": []})] {
            for method in [
                "item/started",
                "item/agentMessage/delta",
                "item/completed",
                "item/reasoning/summaryTextDelta",
                "x",
            ] {
                assert_eq!(mapper.notification(method, &params), Ok(Vec::new()), "{method} {params}");
            }
        }
    }
}
