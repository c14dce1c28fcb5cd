from ..settings import PublishArguments as PublishArguments
from .publish import check_repositories as check_repositories
from .publish import publish_run as publish_run
from .publish import stage_run as stage_run
