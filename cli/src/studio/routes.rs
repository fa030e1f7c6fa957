//! The table of routes.

use std::{path::Path, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
};

use super::{
    api,
    desk::Desk,
    guard::{self, Guard},
    problem::Problem,
    protocol, results,
};

/// What every handler has.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) desk: Desk,
    pub(crate) results: Arc<Path>,
    pub(crate) guard: Guard,
}

/// Makes a router, and beside it the list of its routes, which the API's description is compared with.
macro_rules! routes {
    ($(#[$about:meta])* $router:ident, $list:ident: $($method:ident $path:literal => $handler:expr;)*) => {
        $(#[$about])*
        fn $router() -> Router<App> {
            Router::new()$(.route($path, axum::routing::$method($handler)))*
        }

        #[cfg(test)]
        const $list: &[(&str, &str)] = &[$((stringify!($method), $path)),*];
    };
}

routes! {
    /// For workers (section 1).
    worker_routes, WORKER_ROUTES:
    post "/graphics/api/workers/register-request" => protocol::register;
    get "/graphics/api/workers/register-requests/{requestId}" => protocol::poll;
    get "/graphics/api/workers/{workerId}/connect" => protocol::connect;
    post "/graphics/api/workers/{workerId}/jobs/{jobId}/complete" => protocol::complete;
}

routes! {
    /// For people and scripts that may do everything.
    admin_routes, ADMIN_ROUTES:
    post "/api/v1/jobs" => api::queue_job;
    get "/api/v1/jobs" => api::jobs;
    get "/api/v1/jobs/{jobId}" => api::get_job;
    delete "/api/v1/jobs/{jobId}" => api::cancel_job;
    get "/api/v1/jobs/{jobId}/result" => results::result;
    get "/api/v1/workers" => api::workers;
    delete "/api/v1/workers/{workerId}" => api::revoke_worker;
    get "/api/v1/registrations" => api::registrations;
    post "/api/v1/registrations/{requestId}/approve" => api::approve;
    post "/api/v1/registrations/{requestId}/reject" => api::reject;
    get "/api/v1/logs" => api::logs;
}

routes! {
    /// For everybody who may reach the studio.
    open_routes, OPEN_ROUTES:
    get "/" => page;
    get "/openapi.json" => openapi;
    get "/api/v1/healthz" => api::healthz;
}

/// All routes, with who may use them.
pub(crate) fn router(app: App) -> Router {
    let guard = app.guard.clone();
    worker_routes()
        .merge(admin_routes().route_layer(middleware::from_fn_with_state(guard.clone(), guard::admins_only)))
        .merge(open_routes())
        .fallback(|| async { Problem::not_found("page") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address knows no such method")
        })
        // Each handler has its own bound, and an upload has none in memory.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(guard, guard::no_strangers))
        .layer(middleware::map_response(no_sniffing))
        .with_state(app)
}

async fn no_sniffing(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The page for people. All that it shows comes from the HTTP API.
async fn page(State(app): State<App>) -> Response {
    let page = include_str!("page.html").replacen("/*viewer*/", VIEWER, 1);
    let page = if app.guard.wants_token() {
        page.replacen("data-token=\"no\"", "data-token=\"yes\"", 1)
    } else {
        page
    };
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src 'self' blob: data:; media-src 'self' blob:; frame-ancestors 'none'; \
                  form-action 'none'; base-uri 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, page).into_response()
}

/// The description of the HTTP API.
async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// Draws a 3D model on a canvas.
pub(crate) const VIEWER: &str = include_str!("viewer.js");

const OPENAPI: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn description() -> Value {
        serde_json::from_str(OPENAPI).unwrap()
    }

    #[test]
    fn the_description_has_exactly_the_routes_that_there_are() {
        let routes: BTreeSet<(String, String)> = [WORKER_ROUTES, ADMIN_ROUTES, OPEN_ROUTES]
            .concat()
            .into_iter()
            .map(|(method, path)| (path.to_owned(), method.to_owned()))
            .collect();
        let described: BTreeSet<(String, String)> = description()["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object()
                    .unwrap()
                    .keys()
                    .filter(|key| *key != "parameters")
                    .map(|method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(routes, described);
    }

    #[test]
    fn the_description_is_well_formed() {
        let description = description();
        assert_eq!(description["openapi"], "3.1.0");
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut operation_ids = BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            let item = item.as_object().unwrap();
            for (method, operation) in item.iter().filter(|(key, _)| *key != "parameters") {
                let id = operation["operationId"].as_str().unwrap();
                assert!(operation_ids.insert(id.to_owned()), "{id} twice");
                assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
                let declared: BTreeSet<&str> = [item.get("parameters"), operation.get("parameters")]
                    .into_iter()
                    .flatten()
                    .flat_map(|list| list.as_array().unwrap())
                    .map(|parameter| resolve(&description, parameter))
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                let wanted: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
                assert_eq!(declared, wanted, "{method} {path}");
            }
        }
        check_references(&description, &description);
    }

    fn resolve<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => description.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    fn check_references(description: &Value, value: &Value) {
        if let Some(Value::String(reference)) = value.get("$ref") {
            let target = reference.strip_prefix('#').and_then(|at| description.pointer(at));
            assert!(target.is_some(), "{reference} leads nowhere");
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|it| check_references(description, it)),
            Value::Array(items) => items.iter().for_each(|it| check_references(description, it)),
            _ => {}
        }
    }
}
