"""The expected answers for check_number, in the order of the notebooks, and the wrong answers that
get a name.

An entry is `name: Number(expected, hint, {what the reader likely did: the wrong number})`. Wrong
numbers are written as they come about.
"""
import math
from collections.abc import Mapping
from typing import NamedTuple


class Number(NamedTuple):
    """An exercise for check_number. Whole numbers must be met exactly, others to 0.2 %."""

    expected: float
    hint: str
    mistakes: Mapping[str, float]


ANSWERS: dict[str, Number] = {
    # Images, patches and tokens
    "numbers_image_224": Number(150_528, "height times width times channels", {
        "the three channels are missing": 224 * 224,
        "these are the numbers along one side, there are as many rows": 224 * 3,
        "the alpha channel is no part of an RGB image": 224 * 224 * 4,
        "this is the number of values that a byte can have, for each number": 224 * 224 * 3 * 256,
        "this is the number of bits, one for each byte is asked": 224 * 224 * 3 * 8,
    }),
    "numbers_patch_32": Number(3072, "P^2 C, whatever the hidden size", {
        "the three channels are missing": 32 * 32,
        "the side is not squared": 32 * 3,
        "L/32 has patches of 32 x 32 pixels, not of 16 x 16": 16 * 16 * 3,
        "this is the number of patches": 7 * 7,
    }),
    "patches_224_14": Number(
        256, "N = HW / P^2: how many patches of 14 pixels fit into a row, and how many rows are there?",
        {
            "this is the number in one row, there are as many rows": 16,
            "the class token is no patch": 257,
            "these are the pixels of a patch, or the patches of 16 pixels": 196,
            "these are the numbers of a patch": 14 * 14 * 3,
            "the channels do not make more patches": 256 * 3,
        }),
    "tokens_b16_384": Number(577, "how many patches are there, and which token is no patch?", {
        "this is the number of patches, and there is one token more": 576,
        "this is for 224 pixels": 197,
        "this is the number of patches in one row": 24,
        "one row of patches and the class token: there are as many rows": 25,
        "there is one class token for the image, not one for each row": 24 * 25,
        "there is one token more than patches, not two": 578,
        "the class token is added to the side before it is squared": 25 * 25,
    }),
    # The parameters of the embeddings
    "parameters_patch_embedding_h14": Number(
        753_920, "P^2 C x D weights and D biases, with P = 14 and D = 1280", {
            "the biases are missing": 14 * 14 * 3 * 1280,
            "the three channels are missing": 14 * 14 * 1280 + 1280,
            "the three channels and the biases are missing": 14 * 14 * 1280,
            "each of the outputs has a bias, not each of the inputs": 588 * 1280 + 588,
            "the matrix is counted once for each patch, all share one": 256 * (588 * 1280 + 1280),
            "this is for patches of 16 pixels": 768 * 1280 + 1280,
            "this is for the hidden size of B, 768": 588 * 768 + 768,
            "this is for the hidden size of L, 1024": 588 * 1024 + 1024,
            "the class token belongs to another part": 588 * 1280 + 2 * 1280,
            "there is one bias for each output, not one for all": 588 * 1280 + 1,
        }),
    "parameters_tokens_b16_384": Number(
        443_904, "the class token and N + 1 positions, each of D numbers: N at 384 pixels?", {
            "the class token is missing (it counts beside its position), or its position": 577 * 768,
            "the class token and its position are missing": 576 * 768,
            "this is for 224 pixels": 198 * 768,
            "these are the vectors, each has D numbers": 578,
            "this is for one row of patches": 26 * 768,
            "this is for the hidden size of L, 1024": 578 * 1024,
            "each vector has D = 768 numbers, without biases": 578 * 769,
        }),
    # Attention
    "attention_weights_b16_384": Number(
        47_941_776, "how many tokens are there at 384 pixels? T^2 in each head of each layer", {
            "the class token is missing": 144 * 576**2,
            "this is for 224 pixels": 144 * 197**2,
            "this is for one layer (or for one head in each layer)": 12 * 577**2,
            "this is for one head of one layer": 577**2,
            "each token has a weight for each token: the tokens are squared": 144 * 577,
            "these are bytes, numbers are asked": 4 * 144 * 577**2,
            "a head has D_h = 64 numbers a token, but T weights": 144 * 577 * 64,
        }),
    # The multiply-adds of a block
    "tokens_msa_equals_mlp_b": Number(1_536, "solve 4 T D^2 + 2 T^2 D = 2 T D M for T, with M = 4 D", {
        "the matrices of the MSA are forgotten: 2 T^2 D alone on one side": 4 * 768,
        "this is the hidden size: 2 T D = 4 D^2 gives more": 768,
        "q, k and v are three matrices, and the output projection is the fourth": 5 * 768 / 2,
        "this is where scores and weighted sums cost as much as all the rest": 6 * 768,
        "there are T tokens here, the class token among them": 1537,
        "this is the number of tokens at 224 pixels": 197,
        "this is the image size, the tokens are asked": 627,
    }),
    # Training, and what is measured
    "always_c_by_batches": Number(
        0.453125, "there are batches of 32, 32, 32 and 4 images: which share of each is C?", {
            "this is the true accuracy: the mean over batches is asked": 0.30,
            "the last batch, of 4 images, is left out": (26 / 32) / 3,
            "all batches are taken for as large as the first": (26 / 32 + 4 / 32) / 4,
            "this is the mean over the two batches in which C occurs": (26 / 32 + 1) / 2,
            "this is in per cent, a share between 0 and 1 is asked": 45.3125,
            "this is the sum over the batches, their mean is asked": 26 / 32 + 1,
            "this is the accuracy of guessing": 1 / 3,
        }),
    "steps_to_halve": Number(
        769.8, "each step multiplies the weight by 1 - lr * decay: how many of these factors make 0.5?", {
            "the decay alone is not the factor, it is multiplied by the learning rate":
                math.log(0.5) / math.log(1 - 0.3),
            "the learning rate alone is not the factor, it is multiplied by the decay":
                math.log(0.5) / math.log(1 - 3e-3),
            "each step takes the same amount here, but it takes a share of what is left":
                0.5 / 9e-4,
            "this is when the weight would be gone if each step took the same amount": 1 / 9e-4,
            "this is the number of steps that L2 takes": 20,
        }),
    "even_distance_of_three": Number(
        80 / 9, "the mean over nine pairs of patches, three of which are a patch and itself", {
            "the pairs of a patch and itself count too, with the distance 0": 80 / 6,
            "this is in patches, pixels are asked": 8 / 9,
            "this is for the middle patch alone": 20 / 3,
            "this is for an outer patch alone": 10,
            "this is the sum over the pairs, their mean is asked": 80,
            "each pair is counted in one direction, but divided by nine": 40 / 9,
            "the sum is divided by the three patches, there are nine pairs": 80 / 3,
        }),
    "masks_b16": Number(
        78.4, "196 patches, of which a half is corrupted; 80 % of that half become [mask]", {
            "these are the corrupted patches, 80 % of them become [mask]": 98,
            "only a half is corrupted": 0.8 * 196,
            "the class token is no patch": 197 * 0.4,
            "the other 20 % are these": 0.2 * 98,
            "these are the patches that another one replaces or that stay": 0.1 * 98,
            "this is the share, the number is asked": 0.4,
        }),
    "momentum_09": Number(10.0, "v no longer changes once v = 0.9 v + g", {
        "the sum 1 + 0.9 + 0.9^2 + ... does not end after two terms": 1.9,
        "this is one step of the past, all are added up": 0.9,
        "this is 1 / 0.9, the sum of the powers of 0.9 is 1 / (1 - 0.9)": 1 / 0.9,
        "g itself is counted too": 9,
        "v is no average here, g is not multiplied by 1 - 0.9": 1,
        "this is 1 - 0.9, it is one over that": 0.1,
        "this is for momentum 0.99": 100,
    }),
}
