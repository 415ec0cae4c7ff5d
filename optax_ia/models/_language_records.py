"""The records of the language and the generative models."""

import functools

from optax_ia.models import _awd_lstm, _awd_qrnn, _roberta, _wgan
from optax_ia.models._record import ModelRecord

_MERITY = "Merity et al. 2017, arXiv:1708.02182"
_BRADBURY = "Bradbury et al. 2016, arXiv:1611.01576"
_LIU = "Liu et al. 2019, arXiv:1907.11692"
_ARJOVSKY = "Arjovsky et al. 2017, arXiv:1701.07875"
_AWD_CODE = "salesforce/awd-lstm-lm, its sizes for a vocabulary of 10,000"

_language = functools.partial(
    ModelRecord, kind="language", input_shape=(70,), input_dtype="int32"
)
_image_64 = functools.partial(ModelRecord, kind="generative", input_shape=(64, 64, 3))
_noise = functools.partial(ModelRecord, kind="generative", input_shape=(100,))

LANGUAGE_RECORDS: tuple[ModelRecord, ...] = (
    _language(
        name="awd_lstm_1",
        factory=_awd_lstm.awd_lstm_1,
        summary="AWD-LSTM of 1 layer, 400 features.",
        paper=_MERITY,
        parameters=5_293_200,
        parameters_source=_AWD_CODE,
    ),
    _language(
        name="awd_lstm_2",
        factory=_awd_lstm.awd_lstm_2,
        summary="AWD-LSTM of 2 layers, 1150 and 400 features.",
        paper=_MERITY,
        parameters=13_632_400,
        parameters_source=_AWD_CODE,
    ),
    _language(
        name="awd_lstm_3",
        factory=_awd_lstm.awd_lstm_3,
        summary="AWD-LSTM of 3 layers, 1150, 1150 and 400 features, for Penn Treebank.",
        paper=_MERITY,
        parameters=24_221_600,
        parameters_source=f"{_AWD_CODE}; the paper: 24M, and 33M for WikiText-2, whose "
        "33,278 words make it 33,556,078",
    ),
    _language(
        name="awd_lstm_tiny",
        factory=_awd_lstm.awd_lstm_tiny,
        summary="AWD-LSTM of 2 layers, 12 and 8 features, 50 words, for tests.",
        input_shape=(6,),
    ),
    _language(
        name="awd_qrnn",
        factory=_awd_qrnn.awd_qrnn,
        summary="AWD-QRNN of 4 layers, 1550 features, for Penn Treebank.",
        paper=_BRADBURY,
        parameters=24_020_150,
        parameters_source=f"{_AWD_CODE}; printed nowhere",
    ),
    _language(
        name="awd_qrnn_tiny",
        factory=_awd_qrnn.awd_qrnn_tiny,
        summary="AWD-QRNN of 2 layers, 12 and 8 features, 50 words, for tests.",
        input_shape=(6,),
    ),
    _language(
        name="roberta_base",
        factory=_roberta.roberta_base,
        summary="RoBERTa base with its masked language modelling head.",
        paper=_LIU,
        input_shape=(128,),
        parameters=124_697_433,
        parameters_source="transformers, RobertaForMaskedLM; the paper: 125M",
    ),
    _language(
        name="roberta_80m",
        factory=_roberta.roberta_80m,
        summary="RoBERTa of 6 layers with 48,000 tokens, of the survey's size.",
        paper=_LIU,
        input_shape=(128,),
        parameters=80_428_416,
        parameters_source="Syrek, The Optimisation of Gradient Descent, figure 4: "
        "80.4M, without a configuration; base with half the layers has that many at "
        "48,000 tokens",
    ),
    _language(
        name="roberta_tiny",
        factory=_roberta.roberta_tiny,
        summary="RoBERTa of 2 layers, 16 features, 50 tokens, for tests.",
        input_shape=(8,),
    ),
    _noise(
        name="wgan_generator",
        factory=_wgan.wgan_generator,
        summary="DCGAN generator of 64x64 colour images from 100 numbers.",
        paper=_ARJOVSKY,
        parameters=3_576_704,
        parameters_source="martinarjovsky/WassersteinGAN, DCGAN_G, image size 64",
    ),
    _image_64(
        name="wgan_critic",
        factory=_wgan.wgan_critic,
        summary="DCGAN critic of 64x64 colour images.",
        paper=_ARJOVSKY,
        parameters=2_765_568,
        parameters_source="martinarjovsky/WassersteinGAN, DCGAN_D, image size 64",
    ),
    _noise(
        name="wgan_generator_32",
        factory=_wgan.wgan_generator_32,
        summary="DCGAN generator of 32x32 colour images from 100 numbers.",
        paper=_ARJOVSKY,
        parameters=1_068_928,
        parameters_source="martinarjovsky/WassersteinGAN, DCGAN_G, image size 32",
    ),
    _image_64(
        name="wgan_critic_32",
        factory=_wgan.wgan_critic_32,
        summary="DCGAN critic of 32x32 colour images.",
        paper=_ARJOVSKY,
        parameters=663_296,
        parameters_source="martinarjovsky/WassersteinGAN, DCGAN_D, image size 32",
        input_shape=(32, 32, 3),
    ),
    _noise(
        name="wgan_generator_8",
        factory=_wgan.wgan_generator_8,
        summary="DCGAN generator of 8x8 grey images from 16 numbers, for digits.",
        input_shape=(16,),
    ),
    _image_64(
        name="wgan_critic_8",
        factory=_wgan.wgan_critic_8,
        summary="DCGAN critic of 8x8 grey images, for digits.",
        input_shape=(8, 8, 1),
    ),
)
