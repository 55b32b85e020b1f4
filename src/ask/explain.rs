//! `explain NAME|URL`.

use anyhow::{Context, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::table::{Table, clean};
use super::{ExplainArgs, client, is_coloured, print};

/// Prints why a name or a URL is answered as it is.
///
/// # Errors
/// The daemon is not found, does not answer, or says what we don't understand.
pub async fn explain(arguments: &ExplainArgs) -> Result<()> {
    let base = arguments.list.daemon.url()?;
    let kind = if arguments.question.contains("://") { "url" } else { "name" };
    let question = utf8_percent_encode(&arguments.question, NON_ALPHANUMERIC);
    let body = client::get(&base, &format!("/api/v1/explain?{kind}={question}")).await?;
    if arguments.list.json {
        return print(&format!("{}\n", String::from_utf8_lossy(&body).trim_end()));
    }
    let answer: Value =
        serde_json::from_slice(&body).with_context(|| format!("the answer of {base} is no JSON"))?;
    print(&render(&answer, is_coloured())?)
}

/// The steps in their order, then the answer.
pub(super) fn render(answer: &Value, coloured: bool) -> Result<String> {
    let steps = answer.get("steps").and_then(Value::as_array).context("the answer has no steps")?;
    let mut table = Table::new(&["CONSIDERED", "RESULT", "WHY"]);
    let text = |value: &Value, name: &str| match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    for step in steps {
        table.row(vec![text(step, "what"), text(step, "result"), text(step, "detail")]);
    }
    let result = clean(&text(answer, "answer"));
    let result = if result.is_empty() { "none".to_owned() } else { result };
    Ok(format!(
        "{}\nanswer: {result}   (generation {})\n",
        table.render(coloured),
        text(answer, "generation")
    ))
}
