"""torchvision's models, also on a torch without torchvision's compiled ops (see `packages`).

Those with region pooling or box suppression need the ops to run.
"""

from tilewright.compiler.validate.packages import package

models = package("torchvision.models")

__all__ = ["models"]
