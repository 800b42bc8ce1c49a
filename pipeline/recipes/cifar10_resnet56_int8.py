"""CIFAR-10: a pretrained ResNet-56 (`resnet56*.th` below `--data`) in INT8, as in cifar10_resnet20_int8.py."""

from pipeline.models.resnet_cifar import resnet56
from pipeline.recipes.cifar10_resnet20_int8 import quantized_alone

RECIPE = quantized_alone(resnet56, weights="resnet56-4bfd9763.th", called="ResNet-56", epochs=4)
