"""``GET /docs``: what the server takes and answers, for people."""

from fastapi import APIRouter, Request, Response

from serving import docs_page


def router() -> APIRouter:
    """The route of the page; the document that it shows is the application's own."""
    routes = APIRouter(default_response_class=Response)

    @routes.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        headers = {"Content-Security-Policy": docs_page.POLICY}
        return Response(
            docs_page.page(request.app.openapi()), media_type="text/html; charset=utf-8", headers=headers
        )

    return routes
