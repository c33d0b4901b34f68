//! The table of routes as OpenAPI. It is made from the table itself, so that nothing can be missing from it.

use super::Answer;
use crate::app::App;
use crate::routes::Route;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) async fn openapi(State(app): State<Arc<App>>) -> Answer {
    Ok(Json(document(app.table.get().map_or(&[], Vec::as_slice))))
}

fn document(table: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in table {
        let path = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = json!({
            "operationId": operation_id(route),
            "x-bellrock-right": format!("{:?}", route.right).to_lowercase(),
            "parameters": parameters(route.path),
            "security": [{ "token": [] }],
            "responses": {
                "200": { "description": "Success" },
                "4XX": { "description": "The request is wrong; the body says how." },
                "503": { "description": "Temporary overload; Retry-After says when to come again." },
            },
        });
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Bellrock", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "Apache-2.0" } },
        "components": { "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
        "paths": paths,
    })
}

fn operation_id(route: &Route) -> String {
    let words = route.path.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    format!("{}_{}", route.method.as_str().to_ascii_lowercase(), words.collect::<Vec<_>>().join("_"))
}

fn parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Method;
    use br_model::Right;

    #[test]
    fn the_table_becomes_paths() {
        let table = [Route { method: Method::GET, path: "/bellrock/v1/issues/{id}", right: Right::Read }];
        let document = document(&table);
        let operation = &document["paths"]["/bellrock/v1/issues/{id}"]["get"];
        assert_eq!(operation["operationId"], "get_bellrock_v1_issues_id");
        assert_eq!(operation["parameters"][0]["name"], "id");
        assert_eq!(operation["x-bellrock-right"], "read");
    }
}
