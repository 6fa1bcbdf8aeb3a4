"""`python -m serving`: one worker at RECSYS_HOST and RECSYS_PORT, for containers without the command line."""

import uvicorn

from serving.app import create_app
from serving.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, access_log=False)
